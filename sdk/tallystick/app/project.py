"""`tallystick.toml`: an app as its author writes it down.

Everything but `[price]` and `[publish]` is the app manifest's, by the same names; the image comes
in when the app is built. One file says what runs, what it needs, what it costs.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from tallystick.app.problems import ProjectError
from tallystick.protocol.app_manifest import AppManifest
from tallystick.protocol.input_schemas import SchemaRefused, schema_of

FILE: Final = "tallystick.toml"
DEVELOPMENT_IMAGE: Final = "process"

_PRICE_PARTS: Final = ("flat", "call", "gpu_hour")
_PUBLISH_PARTS: Final = ("uri", "royalty_to", "royalty_bps")


@dataclass(frozen=True, slots=True)
class PriceText:
    """In whole tokens, as text: how many digits a token has is known on chain."""

    flat: str = "0"
    call: str = "0"
    gpu_hour: str = "0"


@dataclass(frozen=True, slots=True)
class Project:
    directory: Path
    draft: AppManifest
    """Whole but for the image, which is the development runtime's here."""
    price: PriceText
    uri: str
    """Where callers will find the manifest; empty if nobody said."""
    royalty_to: str
    royalty_bps: int

    @property
    def name(self) -> str:
        return self.draft.name

    def manifest(self, image: str) -> AppManifest:
        """What a version with this image is."""
        return _checked({**self.draft.model_dump(), "image": image}, self.directory / FILE)


def read_project(directory: Path) -> Project:
    """Raises `ProjectError` with the field at fault."""
    path = directory / FILE
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProjectError(
            f"there is no {FILE} in {directory}: make a project with `tallystick app init NAME`, "
            "or name its directory"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ProjectError(f"{path} cannot be read: {problem}") from problem
    price = _table(path, content, "price", _PRICE_PARTS)
    publish = _table(path, content, "publish", _PUBLISH_PARTS)
    if "image" in content:
        raise ProjectError(
            f"{path}: image is not written here: `tallystick app deploy` builds it, or takes "
            "--image"
        )
    draft = _checked({**content, "image": DEVELOPMENT_IMAGE}, path)
    if not draft.name:
        raise ProjectError(f'{path}: name is missing: write name = "my-app"')
    return Project(
        directory,
        draft,
        PriceText(**{part: _text(path, f"price.{part}", text) for part, text in price.items()}),
        uri=_text(path, "publish.uri", publish.get("uri", "")),
        royalty_to=_text(path, "publish.royalty_to", publish.get("royalty_to", "")),
        royalty_bps=_royalty(path, publish.get("royalty_bps", 0)),
    )


def _table(
    path: Path, content: dict[str, Any], name: str, parts: tuple[str, ...]
) -> dict[str, Any]:
    table = content.pop(name, {})
    if not isinstance(table, dict):
        raise ProjectError(f"{path}: {name} is no table: write [{name}]")
    for part in table:
        if part not in parts:
            raise ProjectError(f"{path}: [{name}] has no {part}: it takes {', '.join(parts)}")
    return table


def _text(path: Path, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ProjectError(f'{path}: {name} is {value!r}: write it as text, such as "0.001"')
    return value


def _royalty(path: Path, value: object) -> int:
    if type(value) is not int or not 0 <= value <= 3_000:
        raise ProjectError(f"{path}: publish.royalty_bps is {value!r}: write 0 to 3000")
    return value


def _checked(content: dict[str, Any], path: Path) -> AppManifest:
    try:
        manifest = AppManifest.model_validate(content)
        schema_of(manifest)
        return manifest
    except SchemaRefused as refused:
        raise ProjectError(f"{path}: {refused}") from refused
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the manifest"
        raise ProjectError(f"{path}: {place}: {first['msg']}") from failure
    except TypeError as failure:  # a schema with a date in it
        raise ProjectError(f"{path}: input_schema cannot be JSON: {failure}") from failure
