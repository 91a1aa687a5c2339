"""The image of an app: built by the container engine on this machine, or named by its digest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tallystick.errors import ConfigurationError, InvalidRequest, NotFound, TallystickError
from tallystick.protocol.app_manifest import image_digest
from tallystick.protocol.errors import WireError

Report = Callable[[str, str], None]


class BuildFailed(TallystickError):
    """The engine could not build the image; its last lines are in the sentence."""

    code = "build_failed"


def pinned(image: str) -> str:
    """The reference with its digest. A tag is looked up in the engine on this machine: what was
    pushed has a digest that everybody can pull by, what was only built has an id of this
    machine's."""
    try:
        image_digest(image)
        return image
    except WireError:
        return _looked_up(image)


def built(directory: Path, name: str, base: str | None, report: Report) -> str:
    """Builds the project's Dockerfile; the image's id. Without a base it starts from an image of
    this machine's own Python."""
    _require_engine("No image was named, and no container engine answers that could build one.")
    from docker.errors import APIError, BuildError

    from tallystick.devnet.images import app_base_image

    dockerfile = directory / "Dockerfile"
    if not dockerfile.is_file():
        raise InvalidRequest(
            f"There is no {dockerfile}.",
            next_step="Write one, or name an image: --image name@sha256:...",
        )
    arguments = {"BASE": base or app_base_image(report)}
    report("image", f"building {dockerfile}")
    client = _client()
    try:
        image, _ = client.images.build(
            path=str(directory),
            tag=f"tallystick-app/{name}",
            buildargs=arguments,
            rm=True,
            forcerm=True,
        )
        return str(image.id)
    except BuildError as failure:
        lines = [str(line.get("stream") or line.get("error") or "") for line in failure.build_log]
        tail = "".join(lines)[-1500:].strip()
        raise BuildFailed(
            f"The image cannot be built: {failure.msg}.\n{tail}",
            next_step=f"Correct {dockerfile} and deploy again.",
        ) from failure
    except APIError as failure:
        raise BuildFailed(
            f"The engine refused to build: {failure.explanation or failure}.",
            next_step="See what `docker build` says in that directory.",
        ) from failure
    finally:
        client.close()


def _looked_up(image: str) -> str:
    _require_engine(f"{image} names no digest, and no container engine answers that knows it.")
    from docker.errors import ImageNotFound

    client = _client()
    try:
        found = client.images.get(image)
    except ImageNotFound as missing:
        raise NotFound(
            f"The engine on this machine has no image {image}.",
            next_step="Build or pull it first, or name it by its digest: name@sha256:...",
        ) from missing
    finally:
        client.close()
    digests = sorted(found.attrs.get("RepoDigests") or [])
    return str(digests[0] if digests else found.id)


def _require_engine(sentence: str) -> None:
    try:
        from tallystick.devnet.images import engine_answers

        answers = engine_answers()
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"{sentence} The package {missing.name} is not installed.",
            next_step="pip install docker, or name the image: --image name@sha256:...",
        ) from missing
    if not answers:
        raise ConfigurationError(
            sentence,
            next_step="Start the engine, or name the image: --image name@sha256:... "
            "(--image process for the development runtime of a local market).",
        )


def _client() -> Any:
    import docker

    return docker.from_env(timeout=600)
