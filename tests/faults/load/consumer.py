"""A consumer that orders tasks and calls without end, and may die at any line.

What it was told, it writes down; what it had not written when it died, it asks for again under the
same key. It ends when a file named `stop` appears and nothing of its own is open.

    {"task": id}                          the backend has this order
    {"task": id, "charge": "123"}         its result came, was checked and accepted
    {"task": id, "failed": "why"}         the market gave it up, and says why
    {"call": key, "lane": 0}              about to be made, under this Idempotency-Key
    {"call": key, "charge": "123"}        answered
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from pathlib import Path
from typing import Any

import httpx

from tallystick import AsyncGPUClient, NotFound, TaskFailed, TimedOut, Unreachable
from tallystick.errors import ChainError, NoProvider, ServiceError

PROGRAM = Path(__file__).parents[2] / "e2e" / "programs" / "count.py"
STEPS = 3
SETTINGS = "FAULTS_CONSUMER"
_AGAIN_S = 0.3


class Book:
    """What the consumer knows, one line at a time; a line is whole or was never written."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.tasks: dict[str, dict[str, Any]] = {}
        self.calls: dict[str, dict[str, Any]] = {}
        for line in path.read_text().splitlines():
            self._take(json.loads(line))

    def note(self, **line: Any) -> None:
        os.write(self._file, (json.dumps(line) + "\n").encode())
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        for kind, known in (("task", self.tasks), ("call", self.calls)):
            if kind in line:
                known.setdefault(line[kind], {}).update(line)

    def open_tasks(self) -> list[str]:
        return [i for i, one in self.tasks.items() if not one.keys() & {"charge", "failed"}]

    def open_calls(self, lane: int) -> list[str]:
        return [k for k, one in self.calls.items() if "charge" not in one and one["lane"] == lane]


def main() -> None:
    asyncio.run(_run(json.loads(os.environ[SETTINGS])))


async def _run(settings: dict[str, Any]) -> None:
    directory = Path(settings["directory"])
    book = Book(directory / "consumer.jsonl")
    stop = directory / "stop"
    limits = httpx.Limits(max_connections=settings["lanes"] + 1)
    async with (
        AsyncGPUClient(**settings["client"]) as client,
        httpx.AsyncClient(limits=limits, timeout=15) as http,
    ):
        left = book.open_tasks()
        tasks = [
            _tasks(client, book, stop, left[lane :: settings["orders"]], settings, directory)
            for lane in range(settings["orders"])
        ]
        calls = [_calls(http, book, stop, lane, settings) for lane in range(settings["lanes"])]
        await asyncio.gather(*tasks, *calls)


async def _tasks(
    client: AsyncGPUClient,
    book: Book,
    stop: Path,
    left: list[str],
    settings: dict[str, Any],
    directory: Path,
) -> None:
    for task_id in left:
        await _finish(client, book, task_id, directory)
    while not stop.exists():
        try:
            job = await client.submit(
                str(PROGRAM),
                gpu="gpu1",
                count=1,
                image=settings["image"],
                time="10m",
                env={"STEPS": str(STEPS), "STEP_SECONDS": "0.05"},
            )
        except (Unreachable, ServiceError, NoProvider, ChainError):
            await asyncio.sleep(_AGAIN_S)
            continue
        book.note(task=job.id)
        await _finish(client, book, job.id, directory)


async def _finish(client: AsyncGPUClient, book: Book, task_id: str, directory: Path) -> None:
    while True:
        # A folder of its own each time: one that it died over is not empty.
        place = directory / "results" / f"{task_id[:14]}-{secrets.token_hex(2)}"
        try:
            result = await client.result(task_id, to=place, timeout=60)
        except TaskFailed as failure:
            book.note(task=task_id, failed=str(failure))
            return
        except (Unreachable, ServiceError, TimedOut, NotFound):
            await asyncio.sleep(_AGAIN_S)
            continue
        if result.exit_code == 0:
            counted = (result.outputs / "counted.txt").read_text().strip()
            assert counted == str(STEPS), f"task {task_id} counted to {counted}"
        book.note(task=task_id, charge=str(result.charge.units))
        return


async def _calls(
    http: httpx.AsyncClient, book: Book, stop: Path, lane: int, settings: dict[str, Any]
) -> None:
    for key in book.open_calls(lane):
        await _call(http, book, key, settings)
    while not stop.exists():
        key = secrets.token_hex(8)
        book.note(call=key, lane=lane)
        await _call(http, book, key, settings)
        await asyncio.sleep(settings["pause_s"])


async def _call(http: httpx.AsyncClient, book: Book, key: str, settings: dict[str, Any]) -> None:
    """Again under the same key until it is answered: that is what the key is for."""
    headers = {"Authorization": f"Bearer {settings['api_key']}", "Idempotency-Key": key}
    while True:
        try:
            answer = await http.post(
                f"{settings['url']}/v1/apps/{settings['app']}/calls",
                json={"text": key},
                headers=headers | {"Prefer": "wait=10"},
            )
        except httpx.HTTPError:
            await asyncio.sleep(_AGAIN_S)
            continue
        if answer.status_code == 200:
            assert answer.json() == {"text": key}, f"call {key} was answered {answer.text}"
            book.note(call=key, charge=answer.headers["tallystick-charge"])
            return
        code = answer.json().get("code", "")
        if answer.status_code < 500 and answer.status_code not in (202, 409, 429):
            raise AssertionError(f"call {key} was refused: {answer.status_code} {answer.text}")
        book_code = f"{answer.status_code} {code}"
        if os.environ.get("FAULTS_VERBOSE"):
            print(key, book_code, flush=True)
        await asyncio.sleep(_AGAIN_S)
