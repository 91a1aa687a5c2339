"""A registry that serves whatever a test puts into it, on loopback: images that lie included."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"

Answer = Callable[[BaseHTTPRequestHandler], None]


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Registry:
    """Manifests and blobs by what they are asked for. `answers` overrides any path."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.credentials: list[str] = []

    @property
    def repository(self) -> str:
        return f"127.0.0.1:{self.port}/app"

    def name(self, digest: str) -> str:
        return f"{self.repository}@{digest}"

    def blob(self, content: bytes) -> str:
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def image(
        self,
        layers: list[bytes],
        *,
        config: dict[str, Any] | None = None,
        descriptors: list[dict[str, Any]] | None = None,
    ) -> str:
        """Digest of an image of these tar archives. `descriptors` replaces what the manifest
        says of its layers."""
        described = []
        for tar in layers:
            packed = gzip.compress(tar, 9, mtime=0)
            described.append(
                {"mediaType": LAYER_TYPE, "size": len(packed), "digest": self.blob(packed)}
            )
        record = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": config or {},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in layers]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": {
                    "mediaType": CONFIG_TYPE,
                    "size": len(record),
                    "digest": self.blob(record),
                },
                "layers": described if descriptors is None else descriptors,
            }
        ).encode()
        digest = digest_of(manifest)
        self.manifests[digest] = manifest
        return digest

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        self.asked.append(path)
        if handler.headers.get("Authorization"):
            self.credentials.append(handler.headers["Authorization"])
        reference = path.rpartition("/")[2]
        if path in self.answers:
            self.answers[path](handler)
        elif path == "/v2/":
            reply(handler, 200, b"{}", "application/json")
        elif "/manifests/" in path and reference in self.manifests:
            reply(handler, 200, self.manifests[reference], MANIFEST_TYPE)
        elif "/blobs/" in path and reference in self.blobs:
            reply(handler, 200, self.blobs[reference], "application/octet-stream")
        else:
            reply(handler, 404, b'{"errors":[{"code":"NOT_FOUND"}]}', "application/json")


def reply(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    content_type: str,
    headers: dict[str, str] | None = None,
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", content_type)
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("Docker-Distribution-Api-Version", "registry/2.0")
    if "/manifests/" in handler.path and status == 200:
        handler.send_header("Docker-Content-Digest", digest_of(body))
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def endless(content_type: str = "application/octet-stream", announced: int | None = None) -> Answer:
    """Bytes for as long as anybody reads them."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", content_type)
        if announced is not None:
            handler.send_header("Content-Length", str(announced))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        if handler.command == "HEAD":
            return
        # What cannot be packed, so that no reader on the way makes it small.
        piece = b"".join(
            hashlib.sha512(bytes([i, j])).digest() for i in range(64) for j in range(16)
        )
        while True:
            handler.wfile.write(piece)

    return answer


def tar_of(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


@contextmanager
def serve() -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            # A reader that hangs up is what many of these tests are about.
            try:
                registry.answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    registry = Registry(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
