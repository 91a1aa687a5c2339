"""The dApp's files: what is a page, what is the API's, what a browser is told of both."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tallystick_backend.api.pages import content_policy, parts_of
from tallystick_backend.app import http_app
from tallystick_backend.settings import Settings, SettingsError

PERSON = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Mode": "navigate"}
SCRIPT = {"Accept": "*/*", "Sec-Fetch-Mode": "cors"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "embed").mkdir()
    (folder / "index.html").write_text("<!doctype html><title>Tallystick</title>")
    (folder / "assets" / "main-4f5e.js").write_text("export const tally = 1;\n" * 100)
    (folder / "assets" / "font.woff2").write_bytes(b"wOF2")
    (folder / "favicon.svg").write_text("<svg/>")
    (folder / "embed" / "tallystick.js").write_text("customElements.define('a-b', class {});")
    (folder / ".env").write_text("secret")
    (tmp_path / "outside.txt").write_text("outside")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    return folder


def _http(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://backend.test:8000")


@pytest.fixture
def http(folder: Path) -> httpx.AsyncClient:
    return _http(http_app(Settings(dapp_dir=folder, browser_rpc_url="http://127.0.0.1:8545/x")))


@pytest.mark.parametrize("path", ["/", "/market", "/tasks/0x2f", "/apps/0xa9/", "/market?gpu=h100"])
async def test_navigating_shows_the_page(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path, headers=PERSON)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert "Tallystick" in answer.text


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/market", SCRIPT),
        ("/market", {"Accept": "application/json"}),
        ("/market", {**PERSON, "Sec-Fetch-Mode": "no-cors"}),
        ("/assets/gone-1234.js", PERSON),
        ("/assets/gone", PERSON),
        ("/robots.txt", PERSON),
        ("/v1/nothing", PERSON),
        ("/v1", PERSON),
    ],
)
async def test_what_is_no_navigation_is_no_page(
    http: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    answer = await http.get(path, headers=headers)

    assert answer.status_code == 404
    assert answer.json()["code"] == "unknown_path"


async def test_the_api_keeps_its_own_paths(http: httpx.AsyncClient) -> None:
    assert (await http.get("/healthz", headers=PERSON)).json()["status"] == "ok"
    assert (await http.get("/openapi.json", headers=PERSON)).json()["openapi"]
    assert (await http.post("/market", headers=PERSON)).status_code in (404, 405)


async def test_files_with_a_hash_are_kept_for_ever(http: httpx.AsyncClient) -> None:
    script = await http.get("/assets/main-4f5e.js", headers=SCRIPT)

    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert script.headers["content-encoding"] == "gzip"
    assert script.headers["vary"] == "Accept-Encoding"
    assert (await http.get("/assets/font.woff2")).headers["content-type"] == "font/woff2"
    assert (await http.get("/favicon.svg")).headers["cache-control"] == "no-cache"


async def test_a_file_known_already_is_not_sent_again(http: httpx.AsyncClient) -> None:
    first = await http.get("/", headers=PERSON)
    again = await http.get("/", headers={**PERSON, "If-None-Match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"]


async def test_a_new_build_is_served_without_a_restart(
    http: httpx.AsyncClient, folder: Path
) -> None:
    before = await http.get("/", headers=PERSON)
    (folder / "index.html").write_text("<!doctype html><title>Built anew, and longer</title>")
    after = await http.get("/", headers={**PERSON, "If-None-Match": before.headers["etag"]})

    assert (after.status_code, "anew" in after.text) == (200, True)


async def test_head_has_the_headers_alone(http: httpx.AsyncClient) -> None:
    answer = await http.head("/assets/main-4f5e.js", headers={"Accept-Encoding": "identity"})

    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == 2400


async def test_pages_may_run_and_load_nothing_of_others(http: httpx.AsyncClient) -> None:
    headers = (await http.get("/", headers=PERSON)).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))

    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["font-src"] == "'self'"
    assert policy["connect-src"] == "'self' http://127.0.0.1:8545"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin-allow-popups"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


async def test_the_api_keeps_its_own_stricter_policy(http: httpx.AsyncClient) -> None:
    headers = (await http.get("/healthz")).headers

    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


async def test_only_what_is_embedded_is_for_pages_of_others(http: httpx.AsyncClient) -> None:
    script = await http.get("/embed/tallystick.js", headers={**SCRIPT, "Origin": "https://a.test"})

    assert script.headers["access-control-allow-origin"] == "*"
    assert script.headers["cross-origin-resource-policy"] == "cross-origin"
    other = await http.get("/v1/providers", headers={**SCRIPT, "Origin": "https://a.test"})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/assets/..%2f..%2foutside.txt",
        "/assets/%5c..%5coutside.txt",
        "/.env",
        "/link.txt",
        "/a%00b",
    ],
)
async def test_nothing_outside_the_folder_is_served(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path, headers=SCRIPT)

    assert answer.status_code == 404
    assert "outside" not in answer.json()["detail"].replace("/outside.txt", "")
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/", ()),
        ("/a/b", ("a", "b")),
        ("/a/", ("a",)),
        ("/a//b", None),
        ("/../a", None),
        ("/a\\b", None),
        ("/a\0", None),
        ("/c:/a", None),
    ],
)
def test_paths_mean_one_thing(path: str, parts: Any) -> None:
    assert parts_of(path) == parts


@pytest.mark.parametrize("built", [False, True])
async def test_it_says_how_to_build_what_is_not_there(tmp_path: Path, built: bool) -> None:
    async with _http(http_app(Settings(dapp_dir=tmp_path if built else None))) as http:
        for path in ("/", "/market"):
            answer = await http.get(path, headers=PERSON)
            assert answer.status_code == 404
            assert answer.headers["content-type"].startswith("text/plain")
            assert "make dapp" in answer.text
            assert "TALLYSTICK_BACKEND_DAPP_DIR" in answer.text
        assert (await http.get("/market", headers=SCRIPT)).json()["code"] == "unknown_path"


def test_gzip_is_the_file(folder: Path) -> None:
    from tallystick_backend.api.pages import _file_of

    body = (folder / "assets" / "main-4f5e.js").read_bytes()
    file = _file_of(body, "text/javascript")
    assert file.zipped is not None
    assert gzip.decompress(file.zipped) == body
    assert _file_of(b"wOF2" * 1000, "font/woff2").zipped is None


def test_the_policy_names_the_nodes_origin_only() -> None:
    assert "connect-src 'self'; " in content_policy("")
    assert "connect-src 'self' https://rpc.test:444; " in content_policy("https://rpc.test:444/k")


@pytest.mark.parametrize(
    "url", ["https://a.test; script-src *", "ftp://a.test", "https://", "https://u:p@a.test", "x"]
)
def test_a_node_that_would_change_the_policy_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="BROWSER_RPC_URL"):
        Settings.from_environment({"TALLYSTICK_BACKEND_BROWSER_RPC_URL": url})
