"""The dApp's built files, in front of the API: a file where there is one, `index.html` where a
person navigates, and everything else is the API's to answer.

Nothing in these pages comes from elsewhere, and nothing is run that is not a file of ours: the
content policy says so to the browser. Files under `/assets/` carry a hash in their name and may be
kept for ever; all others are asked for again each time.

Also here: which answers pages of other origins may read (`EMBEDDED`), for the custom elements that
anybody may put on a page.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import mimetypes
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOT_PAGES: Final = ("v1", "openapi.json", "docs", "healthz", "readyz", "metrics")
"""First parts of paths that are the API's, whatever is built."""

EMBED_PREFIX: Final = "/embed/"
EMBEDDED: Final = ("/v1/embed/",)
"""Public reads that pages of any origin may make, without credentials."""

_ASSETS: Final = "assets"
_KEPT_BYTES: Final = 32 * 1024 * 1024
_COMPRESSED: Final = ("text/", "application/javascript", "application/json", "image/svg+xml")
_TYPES: Final = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".map": "application/json",
    ".ico": "image/x-icon",
}

NOT_BUILT: Final = """\
The dApp is not built.

Build it with `make dapp` in the repository, set TALLYSTICK_BACKEND_DAPP_DIR to the folder it
writes (dapp/dist), and start the backend again. The API itself is up: /openapi.json lists it.
"""


@dataclass(frozen=True, slots=True)
class File:
    """One built file, ready to send."""

    body: bytes
    zipped: bytes | None
    media_type: str
    etag: str


def content_policy(rpc_url: str) -> str:
    """What a page of ours may load, run and talk to: its own origin and the node that is named."""
    connect = ["'self'"]
    if rpc_url:
        url = urlsplit(rpc_url)
        connect.append(f"{url.scheme}://{url.netloc}")
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",  # wallets announce their icons as data URLs (EIP-6963)
            "font-src 'self'",
            f"connect-src {' '.join(connect)}",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


class Pages:
    """Answers what is a page or a file of one; hands everything else on."""

    def __init__(self, app: ASGIApp, *, folder: Path | None, rpc_url: str = "") -> None:
        self.app = app
        self.folder = None if folder is None else folder.resolve()
        self.headers = {
            "Content-Security-Policy": content_policy(rpc_url),
            # A wallet may open a window of its own; nothing that opened us sees into it.
            "Cross-Origin-Opener-Policy": "same-origin-allow-popups",
        }
        self._kept: OrderedDict[tuple[Path, int, int], File] = OrderedDict()
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"].startswith(EMBEDDED):
            await self._embedded(scope, receive, send)
            return
        response = None
        if scope["method"] in ("GET", "HEAD"):
            response = await self._page(scope)
        if response is None:
            await self.app(scope, receive, send)
        else:
            await response(scope, receive, send)

    # --- pages --------------------------------------------------------------------------------

    async def _page(self, scope: Scope) -> Response | None:
        parts = parts_of(scope["path"])
        if parts is None or (parts and parts[0] in NOT_PAGES):
            return None
        headers = Headers(scope=scope)
        if self.folder is None or not (self.folder / "index.html").is_file():
            return self._not_built() if not parts or _navigates(headers) else None
        found = await self._file(parts) if parts else None
        if found is None and (not parts or (_navigates(headers) and _is_a_place(parts))):
            parts = ("index.html",)
            found = await self._file(parts)
        return None if found is None else self._answer(found, parts, headers)

    def _not_built(self) -> Response:
        return PlainTextResponse(NOT_BUILT, status_code=404)

    def _answer(self, file: File, parts: Sequence[str], headers: Headers) -> Response:
        kept = "public, max-age=31536000, immutable" if parts[0] == _ASSETS else "no-cache"
        said = {"ETag": file.etag, "Cache-Control": kept, "Vary": "Accept-Encoding"}
        if f"/{parts[0]}/" == EMBED_PREFIX:
            # Meant for pages of others, which load it as a script: `import` and `integrity` ask.
            said |= {
                "Access-Control-Allow-Origin": "*",
                "Cross-Origin-Resource-Policy": "cross-origin",
            }
        else:
            said |= self.headers
        if file.etag in headers.get("if-none-match", ""):
            return Response(status_code=304, headers=said)
        body = file.body
        if file.zipped is not None and "gzip" in headers.get("accept-encoding", ""):
            body = file.zipped
            said["Content-Encoding"] = "gzip"
        return Response(body, headers=said, media_type=file.media_type)

    async def _file(self, parts: Sequence[str]) -> File | None:
        assert self.folder is not None
        return await asyncio.to_thread(self._read, self.folder.joinpath(*parts))

    def _read(self, path: Path) -> File | None:
        """None for what is not there, or lies outside the folder behind a link."""
        assert self.folder is not None
        try:
            real = path.resolve(strict=True)
            status = real.stat()
            if not real.is_relative_to(self.folder) or not real.is_file():
                return None
            key = (real, status.st_mtime_ns, status.st_size)
            known = self._kept.get(key)
            if known is not None:
                return known
            file = _file_of(real.read_bytes(), _media_type(path))
        except OSError:
            return None
        with self._lock:
            self._kept[key] = file
            while sum(len(each.body) for each in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return file

    # --- reads of other origins -----------------------------------------------------------------

    async def _embedded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Any page may read these: they are public and no credential is looked at."""
        if scope["method"] == "OPTIONS":
            allow = {"Access-Control-Allow-Methods": "GET", "Access-Control-Max-Age": "86400"}
            await Response(status_code=204, headers={"Access-Control-Allow-Origin": "*"} | allow)(
                scope, receive, send
            )
            return

        async def send_open(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = "*"
                headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            await send(message)

        await self.app(scope, receive, send_open)


def parts_of(path: str) -> tuple[str, ...] | None:
    """The path's names; None where one could mean something else to a file system."""
    names = path.removeprefix("/").split("/")
    if names == [""]:
        return ()
    if names[-1] == "":
        names.pop()
    for name in names:
        if not name or name.startswith(".") or not name.isprintable() or set(name) & set('\\:"<>|'):
            return None
    return tuple(names)


def _navigates(headers: Headers) -> bool:
    """A person follows a link or types an address; scripts, images and programs do not."""
    mode = headers.get("sec-fetch-mode", "navigate")
    return mode == "navigate" and "text/html" in headers.get("accept", "")


def _is_a_place(parts: Sequence[str]) -> bool:
    """Not the name of a file: a missing script must not be answered with a page."""
    first = f"/{parts[0]}/"
    return parts[0] != _ASSETS and first != EMBED_PREFIX and not PurePosixPath(parts[-1]).suffix


def _media_type(path: Path) -> str:
    suffix = path.suffix.lower()
    known = _TYPES.get(suffix) or mimetypes.guess_type(path.name)[0]
    return known or "application/octet-stream"


def _file_of(body: bytes, media_type: str) -> File:
    zipped = None
    if media_type.startswith(_COMPRESSED) and len(body) > 512:
        zipped = gzip.compress(body, compresslevel=6, mtime=0)
    digest = hashlib.sha256(body).hexdigest()[:32]
    return File(body, zipped, media_type, f'"{digest}"')
