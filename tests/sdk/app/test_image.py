"""The written project as an image, in a real engine: built from its Dockerfile, called through a
Unix socket without any network, ended by SIGTERM."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick.app_images import BuildFailed, built, pinned
from tallystick.devnet.images import engine_answers
from tallystick.errors import NotFound
from tallystick.protocol.app_manifest import image_digest
from tallystick.scaffold import write_project

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    if not engine_answers():
        pytest.skip("no Docker engine answers: start one with `tools/docker-engine start`")
    import docker

    client = docker.from_env(timeout=300)
    yield client
    client.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("image") / "hello"
    write_project("hello", directory)
    return directory


@pytest.fixture(scope="module")
def image(engine: Any, project: Path) -> str:
    return built(project, "hello", None, lambda step, detail: None)


def test_has_a_digest_and_a_name_here(engine: Any, image: str) -> None:
    assert image_digest(image) == "0x" + image.removeprefix("sha256:")
    assert pinned("tallystick-app/hello") == image
    with pytest.raises(NotFound, match="no image tallystick-app/nowhere"):
        pinned("tallystick-app/nowhere")


def test_answers_without_a_network_and_ends_on_a_signal(engine: Any, image: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o777)  # the container's user is not ours
        container = engine.containers.run(
            image,
            detach=True,
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            environment={"TALLYSTICK_SOCKET": "/run/app/s"},
            volumes={folder: {"bind": "/run/app", "mode": "rw"}},
        )
        try:
            transport = httpx.HTTPTransport(uds=str(place / "s"))
            with httpx.Client(transport=transport, base_url="http://app", timeout=20) as http:
                until_ready(http, container)
                answer = http.post("/call", json={"name": "Ada", "language": "zh"})
                assert answer.json() == {"greeting": "你好, Ada!"}
                refused = http.post("/call", json={"name": "Ada", "language": "xx"})
                assert (refused.status_code, refused.json()["fault"]) == (422, "caller")
            container.kill("SIGTERM")
            assert container.wait(timeout=30)["StatusCode"] == 0
            assert b'"event": "worker_stopped"' in container.logs()
        finally:
            container.remove(force=True)


def test_a_dockerfile_that_does_not_build(engine: Any, project: Path, tmp_path: Path) -> None:
    write_project("broken", tmp_path / "broken")
    (tmp_path / "broken" / "handler.py").unlink()
    with pytest.raises(BuildFailed, match=r"cannot be built|refused to build"):
        built(tmp_path / "broken", "broken", None, lambda step, detail: None)


def until_ready(http: httpx.Client, container: Any) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            if http.get("/ready").status_code == 200:
                return
        except httpx.TransportError:
            container.reload()
            assert container.status != "exited", container.logs().decode()
        assert time.monotonic() < end, container.logs().decode()
        time.sleep(0.05)
