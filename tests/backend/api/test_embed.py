"""The custom elements on a page of another origin, in a real browser where there is one."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tallystick_backend.app import http_app
from tallystick_backend.store.tables import TaskChainRow
from tests.backend.api.world import World
from tests.support.anvil import CONSUMER, PROVIDER

ROOT: Final = Path(__file__).resolve().parents[3]
BROWSER: Final = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
TASK: Final = "0x" + "5a" * 32
UNKNOWN: Final = "0x" + "00" * 32

PAGE: Final = """\
<!doctype html><html lang="en"><title>A page of somebody else</title>
<script type="module" src="{market}/embed/tallystick.js"></script>
<script src="/report.js" defer></script>
<tallystick-task id="known" task="{task}"></tallystick-task>
<tallystick-task id="unknown" task="{unknown}" lang="zh"></tallystick-task>
<tallystick-task id="missing"></tallystick-task>
<tallystick-gpu id="gpus" gpu-class="gpu1"></tallystick-gpu>
<tallystick-gpu id="none" gpu-class="gpu9" lang="zh-CN"></tallystick-gpu>
"""
REPORT: Final = """\
const settled = (text) => text && !/Asking|正在查询/.test(text);
const look = () => {
  const said = {};
  for (const element of document.querySelectorAll("[id]")) {
    const root = element.shadowRoot;
    said[element.id] = root ? [...root.querySelectorAll("span, dt, dd, p")]
      .map((part) => part.textContent).join(" | ") : "";
    said[element.id + " markup"] = root ? String(root.querySelectorAll("b, img").length) : "";
    said[element.id + " border"] = root && root.querySelector(".box")
      ? getComputedStyle(root.querySelector(".box")).borderTopStyle : "";
  }
  if (["known", "unknown", "missing", "gpus", "none"].every((id) => settled(said[id]))) {
    fetch("/said", { method: "POST", body: JSON.stringify(said) });
  } else setTimeout(look, 50);
};
addEventListener("DOMContentLoaded", look);
"""


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "embed").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    subprocess.run(
        [
            ROOT / "node_modules" / ".bin" / "tsc",
            "-p",
            ROOT / "embed",
            "--outDir",
            folder / "embed",
        ],
        check=True,
    )
    return folder


async def _serve(app: ASGIApp) -> tuple[uvicorn.Server, str, asyncio.Task[None]]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not running.done(), "the server ended before it began"
        await asyncio.sleep(0.01)
    return server, f"http://127.0.0.1:{listener.getsockname()[1]}", running


@pytest.fixture
async def market(world: World, built: Path) -> AsyncIterator[str]:
    settings = world.backend.settings.model_copy(update={"dapp_dir": built})
    server, address, running = await _serve(http_app(settings, backend=world.backend))
    yield address
    server.should_exit = True
    await asyncio.wait_for(running, 20)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
async def test_on_a_page_of_another_origin_with_a_policy_of_its_own(
    world: World, market: str, tmp_path: Path
) -> None:
    await world.is_indexed(block=9)
    await world.has_provider()
    await world.write(
        TaskChainRow(
            task_id=TASK,
            state="settled",
            consumer=CONSUMER.address.lower(),
            provider=PROVIDER.address.lower(),
            max_charge=2 * 10**18,
            charge=12_345,
        )
    )
    said: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def page(_: Request) -> Response:
        policy = f"default-src 'none'; script-src 'self' {market}; connect-src 'self' {market}"
        text = PAGE.format(market=market, task=TASK, unknown=UNKNOWN)
        headers = {"Content-Security-Policy": policy}
        return Response(text, media_type="text/html", headers=headers)

    async def report(_: Request) -> Response:
        return Response(REPORT, media_type="text/javascript")

    async def hear(request: Request) -> Response:
        if not said.done():
            said.set_result(json.loads(await request.body()))
        return PlainTextResponse("heard")

    routes = [Route("/", page), Route("/report.js", report), Route("/said", hear, methods=["POST"])]
    server, address, running = await _serve(Starlette(routes=routes))
    assert BROWSER is not None
    browser = await asyncio.create_subprocess_exec(
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--remote-debugging-port=0",
        address,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        shown = await asyncio.wait_for(said, 60)
    finally:
        browser.terminate()
        await browser.wait()
        server.should_exit = True
        await asyncio.wait_for(running, 20)

    assert "settled" in shown["known"]
    assert "Charge | 0.000000000000012 TALLY | At most | 2 TALLY" in shown["known"]
    assert shown["unknown"] == "市场中没有这个任务。"
    assert shown["missing"] == 'Name a task: task="0x…"'
    assert "Simulated · 24 GiB (simulated)" in shown["gpus"]
    assert "free | 2 of 2" in shown["gpus"]
    assert shown["none"] == "目前没有这类显卡可用。"
    assert {shown[name] for name in shown if name.endswith(" border")} == {"solid"}
    assert {shown[name] for name in shown if name.endswith(" markup")} == {"0"}


def test_it_is_small_and_sets_no_markup(built: Path) -> None:
    import gzip

    script = (built / "embed" / "tallystick.js").read_text(encoding="utf-8")
    assert len(gzip.compress(script.encode())) < 4096
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in script
    assert "import " not in script.replace("import.meta", "")
