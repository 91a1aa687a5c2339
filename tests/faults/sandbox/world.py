"""One agent with an engine of its own, and strangers' tasks for it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gzip
import io
import os
import re
import secrets
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tallystick.devnet import images
from tallystick.protocol import sealing, wire
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.types import TaskId, to_digest
from tallystick_provider.bundle import MAX_FILES
from tallystick_provider.clock import SystemClock
from tallystick_provider.runtime import volume
from tallystick_provider.runtime.docker import DockerRuntime
from tests.faults.campaign import Broken
from tests.faults.sandbox.outside import differences, facts, used_bytes, users_processes
from tests.faults.sandbox.programs import HOSTILE, ORDINARY, Ending, Program, Tier
from tests.provider.orders import CONSUMER_KEY
from tests.provider.runtime import probes
from tests.provider.runtime.engines import Engine, open_engine
from tests.provider.runtime.test_isolation import own_address
from tests.provider.settling import open_market
from tests.provider.test_agent import Office, Stand
from tests.provider.waiting import until
from tests.support.anvil import PROVIDER, TOKEN, LocalChain, deploy_market, start_anvil

MIB = 1024 * 1024
OUTPUT_MIB = 8
DISK_MIB = 64
GONE_SECONDS = 10
"""So long after its lease a container may run on."""
PAGE_BYTES = 4096
SOCKETS_MIB = 768
"""What is in sockets at the most, on the whole machine: three times what one program may hold. The
kernel gives each socket a little beyond any limit."""
TOGETHER = 4
"""As many cards as the agent has."""
CAPABLE = struct.pack("<IIIII", 0x02000001, 0x7F7F7F7F, 0, 0x7F, 0)


@cache
def chain() -> tuple[LocalChain, Deployment]:
    held = start_anvil()
    running = held.__enter__()
    atexit.register(held.__exit__, None, None, None)
    return running, deploy_market(running)


@cache
def engine(*options: str) -> Engine:
    """For all seeds of this process."""
    root = Path(tempfile.mkdtemp(prefix="faults-engine-"))
    try:
        found = open_engine(root, *options)
    except pytest.skip.Exception as error:
        raise Broken(f"no engine: {error}") from None
    atexit.register(found.close)
    return found


@cache
def image() -> str:
    """Python without packages, busybox, and what a hostile image brings along."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, source in dict(images._tree(())).items():
                images._add(archive, name, source)
            images._add_base_files(archive)
            _add_hostile(archive)
        file.flush()
        api = engine().api()
        api.import_image_from_file(
            file.name, repository="tallystick-test/hostile", tag="1", changes=["ENV PATH=/usr/bin"]
        )
        return str(api.inspect_image("tallystick-test/hostile:1")["Id"])


def _add_hostile(archive: tarfile.TarFile) -> None:
    busybox = Path("/bin/busybox").read_bytes()
    capability = {"SCHILY.xattr.security.capability": CAPABLE.decode("ascii")}
    for name, mode, headers in (
        ("bin/busybox", 0o755, {}),
        ("hostile/setuid", 0o6755, {}),
        ("hostile/capable", 0o755, capability),
    ):
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.pax_headers = len(busybox), mode, headers
        archive.addfile(entry, io.BytesIO(busybox))
    for name, kind, major, minor in (
        ("mem", tarfile.CHRTYPE, 1, 1),
        ("kmsg", tarfile.CHRTYPE, 1, 11),
        ("loop-control", tarfile.CHRTYPE, 10, 237),
        ("vda", tarfile.BLKTYPE, 254, 0),
        ("sda", tarfile.BLKTYPE, 8, 0),
    ):
        node = tarfile.TarInfo(f"hostile/{name}")
        node.type, node.devmajor, node.devminor, node.mode = kind, major, minor, 0o666
        archive.addfile(node)


@dataclass
class Traps:
    """What only the agent has, and listeners on which nobody may knock."""

    canary: str = field(default_factory=lambda: f"CANARY{secrets.token_hex(16)}")
    mark: str = ""
    sockets: list[socket.socket] = field(default_factory=list)
    listeners: list[str] = field(default_factory=list)
    abstract: str = field(default_factory=lambda: f"tallystick-{secrets.token_hex(8)}")
    path: str = ""
    outsider: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return {
            "MIRRORED": self.canary[::-1],
            "MARK": self.mark,
            "LISTENERS": ",".join(self.listeners),
            "AGENT_SOCKET": self.path,
            "AGENT_ABSTRACT": self.abstract,
            "OUTSIDER": str(self.outsider),
        }

    def require_untouched(self) -> None:
        for line in self.sockets:
            with suppress(BlockingIOError):
                line.accept()
                raise Broken(f"somebody knocked at {line.getsockname()!r}")
        os.kill(self.outsider, 0)


@contextmanager
def traps(directory: Path) -> Iterator[Traps]:
    found = Traps()
    marked = directory / "marked" / "secret"
    marked.parent.mkdir(mode=0o755)
    marked.write_text(found.canary)
    found.mark, found.path = str(marked), str(directory / "agent.sock")
    os.environ["TALLYSTICK_CANARY"] = found.canary
    (directory / "operator.key").write_text(found.canary)
    (directory / "operator.key").chmod(0o600)
    outsider = subprocess.Popen(
        [sys.executable, "-c", f"import time; time.sleep(3600)  # {found.canary}"]
    )
    found.outsider = outsider.pid
    with contextlib.ExitStack() as stack:
        stack.callback(outsider.wait)
        stack.callback(outsider.kill)
        stack.callback(os.environ.pop, "TALLYSTICK_CANARY", None)
        for at in (found.path, "\0" + found.abstract):
            line = stack.enter_context(socket.socket(socket.AF_UNIX))
            line.bind(at)
            line.listen()
            found.sockets.append(line)
        for address in dict.fromkeys(("127.0.0.1", own_address())):
            if address:
                line = stack.enter_context(socket.create_server((address, 0)))
                found.listeners.append(f"{address}:{line.getsockname()[1]}")
                found.sockets.append(line)
        for line in found.sockets:
            line.setblocking(False)
        yield found


@dataclass
class Watch:
    """When each container's first process was last seen, and which users they had."""

    url: str
    seen_ms: dict[str, int] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    """The first process of each, as this machine numbers it."""
    most_tcp_pages: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        import docker

        with suppress(Exception):
            api = docker.APIClient(self.url, version="auto", timeout=30)
            while not self._over.wait(0.2):
                with suppress(Exception):
                    self._look(api)
            api.close()

    def _look(self, api: Any) -> None:
        for found in api.containers():
            if found["Id"] not in self.users:
                held = api.inspect_container(found["Id"])
                self.users[found["Id"]] = int(held["Config"]["User"].partition(":")[0])
                self.first[found["Id"]] = int(held["State"]["Pid"])
            # Not what the engine says: it calls a container running until its log is written.
            if os.path.exists(f"/proc/{self.first[found['Id']]}"):
                self.seen_ms[found["Id"]] = time.time_ns() // 1_000_000
        pages = re.search(r"TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text())
        self.most_tcp_pages = max(self.most_tcp_pages, int(pages[1]) if pages else 0)

    def end(self) -> None:
        self._over.set()


@dataclass
class World:
    stand: Stand
    engine: Engine
    image: str
    traps: Traps
    watch: Watch
    before: dict[str, Any] = field(default_factory=dict)
    used_before: int = 0
    attempts: int = 0
    """Refusals that the logs told."""
    scanned: int = 0

    async def order(self, program: Program, draw: str = "0", **env: str) -> wire.Offer:
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as archive:
            for name, source in (("hostile.py", HOSTILE), ("probes.py", Path(probes.__file__))):
                archive.add(source, name)
        _, offer = await asyncio.to_thread(
            lambda: self.stand.order_bundle(
                gzip.compress(target.getvalue()),
                max_seconds=program.seconds,
                image=self.image,
                command=("/usr/bin/python3", "/task/in/hostile.py", program.name),
                env={**self.traps.environment, "DRAW": draw, **env},
                resources=wire.Resources(
                    gpu_class="gpu1",
                    gpus=1,
                    cpu_milli=500,
                    memory_mib=program.memory_mib,
                    disk_mib=DISK_MIB,
                ),
                max_output_mib=OUTPUT_MIB,
            )
        )
        return offer

    async def take(self, offer: wire.Offer) -> None:
        assert self.stand.agent is not None
        reply = await self.stand.agent.on_offer(offer)
        if not reply.accepted:
            raise Broken(f"the agent does not take an ordinary order: {reply}")

    async def together(self, programs: Sequence[Program], draw: str, tier: Tier) -> None:
        """A few at the same time; then everything is as it was, and an ordinary task goes well."""
        offers = []
        for program in programs:
            offer = await self.order(program, draw, CODE=str(1 + hash(draw) % 254))
            await self.take(offer)
            offers.append(offer)
        for program, offer in zip(programs, offers, strict=True):
            await self.ended(program, offer, tier)
        await self.as_before([program.name for program in programs])
        offer = await self.order(ORDINARY)
        await self.take(offer)
        await self.ended(ORDINARY, offer, tier)

    async def ended(self, program: Program, offer: wire.Offer, tier: Tier) -> None:
        name = program.name

        def over() -> bool:
            lease = self.stand.lease(offer)
            return lease.reached("reported") or lease.outcome is not None

        await until(over, program.seconds + 60, f"the end of {name}")
        how, why = self._ending(offer)
        said = self.said(offer)
        tail = said[-400:]
        if how not in program.ends:
            raise Broken(f"{name} ({tier}) ended {how}, {why}, not {program.ends}; said {tail!r}")
        if "THROUGH" in said:
            found = [line for line in said.splitlines() if line.startswith("THROUGH")]
            raise Broken(f"{name} got through: {found[:10]}")
        if "Traceback" in said and "well" in program.ends and how == "well":
            raise Broken(f"{name} broke by itself: {tail}")
        tried = sum(1 for line in said.splitlines() if line.startswith("tried "))
        if program.tries and not tried:
            raise Broken(f"{name} tried nothing; said {tail!r}")
        if program.says not in said:
            raise Broken(f"{name} did not say {program.says!r} but {tail!r}")
        self.attempts += tried
        self._require_in_time(program, offer)
        self._require_clean(program, offer, said)

    def _ending(self, offer: wire.Offer) -> tuple[Ending, str]:
        task = offer.assignment.task_id
        for failed in self.stand.office.failures:
            if failed.task_id == task:
                if failed.blame != "task":
                    raise Broken(f"the provider is blamed: {failed.reason}")
                return "refused", failed.reason
        (done,) = [d for d in self.stand.office.done if d.task_id == task]
        code = done.exit_code
        ran_ms = done.receipt.ended_at_ms - done.receipt.started_at_ms
        if done.receipt.gpu_ms != ran_ms:
            raise Broken(f"{done.receipt.gpu_ms} GPU-ms are charged for {ran_ms} ms on one card")
        ways: dict[int, Ending] = {0: "well", 124: "by the limit"}
        return ways.get(code, "with a code"), f"exit code {code}"

    def said(self, offer: wire.Offer) -> str:
        task = offer.assignment.task_id
        return "".join(c.text for c in self.stand.office.logs if c.task_id == task)

    def _require_in_time(self, program: Program, offer: wire.Offer) -> None:
        lease = self.stand.lease(offer)
        if lease.started_ms is None or lease.handle is None:
            return
        latest = lease.started_ms + (program.seconds + GONE_SECONDS) * 1000
        seen = self.watch.seen_ms.get(lease.handle, 0)
        if max(seen, lease.ended_ms or 0) > latest:
            raise Broken(f"{program.name} ran on {max(seen, lease.ended_ms or 0) - latest} ms late")

    def _require_clean(self, program: Program, offer: wire.Offer, said: str) -> None:
        """Nothing of the agent's in what the consumer gets, and only plain files."""
        task = offer.assignment.task_id
        canary = self.traps.canary.encode()
        found = [said.encode(errors="replace")]
        for failed in self.stand.office.failures:
            found.append(failed.reason.encode())
        for done in self.stand.office.done:
            if done.task_id != task:
                continue
            sealed = self.stand.blobs[done.result_digest]
            packed = sealing.open_result(CONSUMER_KEY, TaskId(to_digest(task)), done.fence, sealed)
            found.append(gzip.decompress(packed))
            with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
                members = archive.getmembers()
            if len(members) > MAX_FILES + 1:
                raise Broken(f"{program.name} has a result of {len(members)} files")
            for member in members:
                parts = member.name.split("/")
                if not member.isreg() or ".." in parts or member.name.startswith("/"):
                    raise Broken(f"{program.name} has {member.name!r} in its result")
                if member.mode not in (0o644, 0o755) or parts[0] not in ("out", "tallystick.json"):
                    raise Broken(f"{program.name}: {member.name!r} has mode {member.mode:o}")
        for each in found:
            self.scanned += len(each)
            if canary in each:
                raise Broken(f"{program.name} has a secret of the agent's in its log or result")

    async def stop(self, offer: wire.Offer) -> None:
        """As its consumer cancels it."""
        assert self.stand.agent is not None
        await self.stand.agent.on_stop(
            wire.Stop(task_id=offer.assignment.task_id, fence=1, reason="the consumer cancelled")
        )
        await until(lambda: self.stand.lease(offer).reached("reported"), 60, "its end")

    async def as_before(self, names: list[str]) -> None:
        """At the latest ten seconds after the last of them."""
        told: list[str] = []
        for _ in range(5 * GONE_SECONDS):
            now = await asyncio.to_thread(facts, self.engine, self.stand.path)
            told = differences(self.before, now)
            left = await asyncio.to_thread(users_processes, set(self.watch.users.values()))
            told += [f"process {pid} is left" for pid in left]
            if not told:
                break
            await asyncio.sleep(0.2)
        if told:
            raise Broken(f"after {', '.join(names)}: {'; '.join(told)}")
        self.traps.require_untouched()

    def require_small(self, cap_mib: int) -> None:
        used = used_bytes(self.engine.root / "data" / "containers", self.stand.path)
        if used - self.used_before > cap_mib * MIB:
            raise Broken(f"{(used - self.used_before) // MIB} MiB of disk are gone")
        if self.watch.most_tcp_pages * PAGE_BYTES > SOCKETS_MIB * MIB:
            raise Broken(f"{self.watch.most_tcp_pages} pages of this machine were in sockets")


@asynccontextmanager
async def world(directory: Path, tier: Tier) -> AsyncIterator[World]:
    running, deployment = chain()
    snapshot = running.snapshot()
    made = engine()
    with suppress(Exception):
        running.set_time(SystemClock().now_ms() // 1000)
    open_market(running, deployment, 1_000 * TOKEN)
    path = directory / f"{tier}-{secrets.token_hex(4)}"
    path.mkdir(parents=True)
    for folder in (directory, path):
        folder.chmod(0o755)
    stand = Stand(running, deployment, path, Office(deployment.domain))
    volumes = path if tier == "bounded" else None
    stand.engine = lambda: DockerRuntime(PROVIDER.address, made.url, volumes_in=volumes)
    watch = Watch(made.url)
    watcher = threading.Thread(target=watch.run, daemon=True)
    try:
        with traps(path) as set_up:
            # As often as a provider's agent looks and beats; tests of other things wait less.
            stand.office.heartbeat_seconds = 2.0
            agent = await stand.open()
            agent.tools = replace(agent.tools, poll_s=0.2)
            found = World(stand, made, image(), set_up, watch)
            (path / "tasks").mkdir(exist_ok=True)
            found.before = facts(made, path)
            found.used_before = used_bytes(made.root / "data" / "containers", path)
            watcher.start()
            yield found
    finally:
        watch.end()
        if watcher.ident is not None:
            await asyncio.to_thread(watcher.join)
        if stand.agent is not None:
            runtime = stand.agent.tools.runtime
            await stand.die()
            with suppress(Exception):
                for ref in await runtime.own():
                    await runtime.remove(ref)
            await runtime.close()
        for left in (path / "tasks").glob("*"):
            volume.remove(left)
        running.revert(snapshot)
