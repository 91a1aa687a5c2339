"""Secrets that can be recognised, and errors of every kind: afterwards none of them is anywhere
that somebody else may look."""

from __future__ import annotations

import base64
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import text

from tallystick_backend.settings import PREFIX
from tallystick_backend.store.tables import Table
from tests.faults.campaign import Broken
from tests.faults.requests.inputs import OPERATIONS, Inputs
from tests.faults.requests.place import Place, place
from tests.faults.requests.wire import Ask, Wire
from tests.support.anvil import CONSUMER, DISPATCHER, OPERATOR, PROVIDER

WORD: Final = "canary8f1c0d"
"""In every secret that may be any text."""
RPC_TOKEN: Final = f"{WORD}rpctoken"
PASSWORD: Final = f"{WORD}password"
PROGRAM: Final = Path(sys.executable).with_name("tallystick-backend")
AGENT: Final = Path(sys.executable).with_name("tallystick-provider")
ENDED_WITHIN_S: Final = 5


def run(folder: Path, *, full: bool) -> int:
    """How many pairs of a secret and a place to look were looked at. Raises `Broken`."""
    looked = 0
    chance = random.Random(WORD)
    with place(folder, LOG_LEVEL="debug") as here:
        secrets = {
            "the dispatcher's key": DISPATCHER.key[2:],
            "an operator's key": OPERATOR.key[2:],
            "the consumer's key": CONSUMER.key[2:],
            "the bus issuer's seed": here.keys.issuer_seed,
            "the backend's seed": here.keys.backend_seed,
            "the callout's seed": here.keys.callout_seed,
            "a session": here.tokens["consumer"],
            "another session": here.tokens["stranger"],
            "the word in every other": WORD,
        }
        key = here.run(_api_key(here))
        secrets["an API key"] = key.rpartition("_")[2]
        said = here.run(_answers(here, chance))
        agent = _agent(here, folder, full=full)
        places = {
            "the backend's log": here.log.read_bytes(),
            "the agent's output": agent,
            "the database": here.run(_dump(here)),
            "what stands in the process list": Path(f"/proc/{here.pid}/cmdline").read_bytes(),
            "the bus's configuration": (folder / "nats.conf").read_bytes(),
            **said,
            **_crashes(here, chance, full=full),
        }
        for name, found in places.items():
            if len(found) < 2 and name != "the agent's output":
                raise Broken(f"{name} is empty: nothing was looked at")
            for what, secret in secrets.items():
                for form in _forms(secret):
                    at = found.find(form)
                    if at >= 0:
                        around = found[max(0, at - 200) : at + 60]
                        raise Broken(f"{what} is in {name}: {around!r}")
                looked += 1
    return looked


async def _api_key(here: Place) -> str:
    headers = {"Authorization": f"Bearer {here.tokens['consumer']}", "Idempotency-Key": "mine"}
    answer = await here.world.http.post("/v1/keys", json={"name": "x"}, headers=headers)
    secret = str(answer.json()["secret"])
    headers = {"Authorization": f"Bearer {secret}"}
    await here.world.http.get("/v1/tasks", headers=headers)
    await here.world.http.get("/v1/tasks?cursor=x", headers=headers)
    return secret


async def _answers(here: Place, chance: random.Random) -> dict[str, bytes]:
    """Of every route, of nonsense, of what operators read."""
    wire = Wire(here.port)
    asks = [
        Ask(
            operation["operationId"],
            method,
            path.format(**{**here.ids, "address": PROVIDER.address}),
            (("Authorization", f"Bearer {here.tokens['consumer']}".encode()),),
        )
        for method, path, operation in OPERATIONS
        if "tream" not in operation["operationId"] and method == "GET"
    ]
    found: dict[str, bytes] = {}
    for ask, answer in zip(asks, await wire.all(asks), strict=True):
        found[f"the answer of {ask.operation}"] = b"%d " % answer.status + answer.body
    inputs = _drawn(here, chance)
    joined = []
    for answer in await wire.all(inputs):
        # An answer repeats the path that it is asked for; what is asked for has no secret in it.
        joined.append(answer.body + repr(answer.headers).encode())
    found["answers to nonsense"] = b"\n".join(joined)
    document = await wire.one(Ask("openapi", "GET", "/openapi.json"))
    found["/openapi.json"] = document.body
    await wire.close()
    return found


def _drawn(here: Place, chance: random.Random) -> list[Ask]:
    inputs = Inputs(here, chance, cursors=[])
    kinds = (inputs.any_route, inputs.terms, inputs.manifest, inputs.search, inputs.json)
    return [chance.choice(kinds)() for _ in range(300)]


async def _dump(here: Place) -> bytes:
    parts = []
    async with here.world.database.engine.connect() as connection:
        for table in Table.metadata.sorted_tables:
            rows = (await connection.execute(text(f"SELECT * FROM {table.name}"))).all()
            parts.append(repr(rows).encode())
    return b"\n".join(parts)


def _crashes(here: Place, chance: random.Random, *, full: bool) -> dict[str, bytes]:
    """What the program says when it cannot start, each with a secret in what is wrong."""
    rpc = f"http://user:{PASSWORD}@127.0.0.1:9/v2/{RPC_TOKEN}?key={RPC_TOKEN}"
    wrong: dict[str, Mapping[str, str]] = {
        "no database": {
            "DATABASE_URL": f"postgresql+asyncpg://tally:{PASSWORD}@127.0.0.1:9/tallystick"
        },
        "no such driver": {"DATABASE_URL": f"mysql://tally:{PASSWORD}@127.0.0.1:9/tallystick"},
        "no database URL": {"DATABASE_URL": f"{PASSWORD}"},
        "no node": {"RPC_URL": rpc},
        "no bus": {"NATS_URL": f"nats://user:{PASSWORD}@127.0.0.1:9"},
        "a key cut short": {"DISPATCHER_KEY": DISPATCHER.key[:-1]},
        "a key with a letter": {"DISPATCHER_KEY": DISPATCHER.key[:-1] + "x"},
        "a seed cut short": {"NATS_ISSUER_SEED": here.keys.issuer_seed[:-3]},
        "a seed of another kind": {"NATS_ISSUER_SEED": f"SU{WORD}"},
        "a setting misspelt": {"DISPATCHER_KEYS": DISPATCHER.key},
        "a port that is a secret": {"PORT": PASSWORD},
        "a limit that is a secret": {"READ_LIMIT": PASSWORD},
    }
    said = {}
    lasting = ("no node", "no bus")
    tried = list(wrong) if full else chance.sample([w for w in wrong if w not in lasting], 3)
    for name, changes in ((name, wrong[name]) for name in tried):
        said[f"what is said of {name}"] = _said(PROGRAM, PREFIX, {**here.environment, **changes})
    for command in ("settings", "nats-config") if full else ("nats-config",):
        said[f"`{command}`"] = _said(PROGRAM, PREFIX, here.environment, command)
    return said


def _said(
    program: Path, prefix: str, settings: Mapping[str, str], command: str = "serve", **more: str
) -> bytes:
    """All output of a program that ends by itself, or is ended."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("TALLYSTICK_")}
    environment |= {prefix + name: value for name, value in {**settings, "PORT": "0"}.items()}
    if "PORT" in settings and not settings["PORT"].isdigit():
        environment[prefix + "PORT"] = settings["PORT"]
    environment |= more
    process = subprocess.Popen(
        [str(program), command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=settings["BLOB_DIR"],
    )
    try:
        said, _ = process.communicate(timeout=6)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            said, _ = process.communicate(timeout=ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
    return said + b"\nended\n"


def _agent(here: Place, folder: Path, *, full: bool) -> bytes:
    """A provider that logs in, works, is refused, and looks itself over."""
    key = folder / "operator.key"
    key.write_text(OPERATOR.key)
    key.chmod(0o600)
    environment = {n: v for n, v in os.environ.items() if not n.startswith("TALLYSTICK_")}
    settings = {
        "ADDRESS": PROVIDER.address,
        "KEY_FILE": str(key),
        "RPC_URL": here.chain.url,
        "DEPLOYMENT": str(folder / "deployment.json"),
        "NATS_URL": here.bus.url,
        "DATA_DIR": str(folder / "provider"),
        "RUNTIME": "process",
        "GPUS": "simulated:2xgpu1:24576",
        "RATE": "gpu1=5,=0",
        "CPU_MILLI": "1000",
        "MEMORY_MIB": "1024",
        "DISK_MIB": "1024",
    }
    environment |= {f"TALLYSTICK_PROVIDER_{name}": value for name, value in settings.items()}
    said = b""
    runs: tuple[tuple[dict[str, str], str], ...] = (
        ({}, "start"),
        ({}, "doctor"),
        ({"RPC_URL": f"http://u:{PASSWORD}@127.0.0.1:9/{RPC_TOKEN}"}, "start"),
        ({"NATS_URL": f"nats://u:{PASSWORD}@127.0.0.1:9"}, "start"),
    )
    for changes, command in runs if full else runs[:1]:
        wrong = {f"TALLYSTICK_PROVIDER_{name}": value for name, value in changes.items()}
        try:
            done = subprocess.run(
                [str(AGENT), command],
                env=environment | wrong,
                capture_output=True,
                timeout=6,
            )
            said += done.stdout + done.stderr
        except subprocess.TimeoutExpired as still:
            said += (still.stdout or b"") + (still.stderr or b"")
    return said


def _forms(secret: str) -> Iterator[bytes]:
    """As it is, and as programs write it."""
    raw = secret.encode()
    yield raw
    yield quote(secret, safe="").encode()
    yield base64.b64encode(raw).rstrip(b"=")
    if len(secret) == 64:
        yield secret.upper().encode()
        try:
            value = bytes.fromhex(secret)
        except ValueError:
            return
        yield value
        yield repr(value)[2:-1].encode()
        yield str(int(secret, 16)).encode()
