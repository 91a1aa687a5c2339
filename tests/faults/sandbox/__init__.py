"""Strangers' programs in real containers, as the agent starts them, and this machine around them.

Each program runs by the agent's own path: offer, bundle, container, filter, output, meter, log,
result, receipt. It is contained when it ends or is ended by its limit, when everything that this
machine shows from outside is then as it was, when nothing of the agent's is in its log or result,
and when the agent's next ordinary task goes well.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from tallystick.protocol import wire
from tallystick_provider.clock import SystemClock
from tallystick_provider.runtime import volume
from tests.faults.campaign import Broken, Campaign, Row, Run
from tests.faults.sandbox.programs import (
    ESCAPES,
    FLOODS,
    LIVES,
    ORDINARY,
    OUTPUTS,
    PROGRAMS,
    Program,
    Tier,
)
from tests.faults.sandbox.world import TOGETHER, World, world
from tests.provider.waiting import until

SHORT = ((ESCAPES, 5), (FLOODS, 3), (LIVES, 1), (OUTPUTS, 3))
SLOW = ("very_many_files", "neighbourhood", "storm_of_calls")
"""Seconds each: for the full form."""
LEFT_MIB = 64
FULL = {program.name: program for program in PROGRAMS}
COUNTED = ("watchers", "queued_signals", "timers", "pipes", "files_on_their_way", "message_queues")


def run(run: Run) -> None:
    if lacks := missing():
        raise Broken(lacks)
    kept = structlog.get_config()
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    try:
        asyncio.run(_run(run))
    finally:
        structlog.configure(**kept)


async def _run(run: Run) -> None:
    tier: Tier = run.random.choice(("bounded", "bounded", "watched"))
    if run.full:
        await _programs(run, "bounded", list(PROGRAMS))
        await _programs(run, "watched", [p for p in PROGRAMS if "watched" in p.tiers])
    else:
        chosen = [
            program
            for group, many in SHORT
            for program in run.random.sample([p for p in group if p.name not in SLOW], many)
        ]
        await _programs(run, tier, chosen)
    await _beside(run, COUNTED if run.full else run.random.sample(COUNTED, 1))
    for how in (signal.SIGTERM, signal.SIGKILL) if run.full else (signal.SIGKILL,):
        await _restart(run, how)
    await _lost(run)


async def _programs(run: Run, tier: Tier, programs: list[Program]) -> None:
    run.random.shuffle(programs)
    async with world(run.directory, tier) as place:
        for start in range(0, len(programs), TOGETHER):
            some = programs[start : start + TOGETHER]
            run.say(f"{tier}: {', '.join(program.name for program in some)}")
            await place.together(some, str(run.random.getrandbits(32)), tier)
            run.count("programs", len(some))
            run.count("ordinary")
        await asyncio.to_thread(place.require_small, LEFT_MIB)
        run.count("attempts", place.attempts)
        run.count("scanned", place.scanned)


async def _beside(run: Run, names: Sequence[str]) -> None:
    """While one task holds all that the kernel gives its user, another has its own."""
    async with world(run.directory, "bounded") as place:
        for start in range(0, len(names), TOGETHER - 1):
            some = [
                replace(FULL[name], seconds=120) for name in names[start : start + TOGETHER - 1]
            ]
            run.say(f"beside {', '.join(program.name for program in some)}")
            offers = []
            for program in some:
                offers.append(await place.order(program))
                await place.take(offers[-1])
            for offer in offers:
                await until(partial(_has_tried, place, offer), 90, "its flood")
            beside = await place.order(ORDINARY)
            await place.take(beside)
            await place.ended(ORDINARY, beside, "bounded")
            for offer in offers:
                await place.stop(offer)
            await place.as_before([program.name for program in some])
            run.count("beside", len(some))


def _has_tried(place: World, offer: wire.Offer) -> bool:
    return "tried " in place.said(offer)


async def _restart(run: Run, how: signal.Signals) -> None:
    """Case 122: what ended with the engine is nobody's bill; the agent goes on with the next."""
    run.say(f"the engine ends by {how.name}")
    async with world(run.directory, "bounded") as place:
        offer = await place.order(replace(ORDINARY, name="deaf", seconds=120))
        await place.take(offer)
        await until(lambda: "deaf" in place.said(offer), 60, "the start")
        await asyncio.sleep(run.random.uniform(0, 1))
        await asyncio.to_thread(place.engine.stop, how)
        await asyncio.sleep(run.random.uniform(0, 1))
        await asyncio.to_thread(place.engine.start)
        await until(lambda: bool(place.stand.office.failures), 60, "the failure")
        (failed,) = place.stand.office.failures
        if failed.blame != "provider" or place.stand.office.done:
            raise Broken(f"blamed on the {failed.blame}: {failed.reason}")
        lease = place.stand.lease(offer)
        assert place.stand.agent is not None
        if place.stand.agent.tools.journal.signed(lease.task_id, lease.fence) is not None:
            raise Broken("a receipt is signed for a task that the engine ended")
        await place.as_before(["a restart of the engine"])
        after = await place.order(ORDINARY)
        await place.take(after)
        await _well(place, after)
    run.count("restarts")


async def _lost(run: Run) -> None:
    """Case 116: a program that hears no signal is gone ten seconds after its lease."""
    run.say("a lease is lost")
    async with world(run.directory, "bounded") as place:
        offer = await place.order(replace(ORDINARY, name="deaf", seconds=120))
        await place.take(offer)
        await until(lambda: "deaf" in place.said(offer), 60, "the start")
        handle = place.stand.lease(offer).handle
        place.stand.office.verdict = "lost"
        lost_ms = SystemClock().now_ms()
        await until(lambda: place.stand.outcome(offer) == "lost", 60, "letting go")
        await place.as_before(["a lost lease"])
        ran_on_ms = place.watch.seen_ms.get(handle or "", 0) - lost_ms
        if ran_on_ms > 10_000:
            raise Broken(f"it ran on for {ran_on_ms} ms after its lease was lost")
    run.count("lost")


async def _well(place: World, offer: wire.Offer) -> None:
    await place.ended(ORDINARY, offer, "bounded")


def missing() -> str:
    if os.geteuid() != 0:
        return "only root can start a container engine of the campaign's own"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    for tool, package in (("dockerd", "docker.io"), ("busybox", "busybox-static")):
        if shutil.which(tool, path=path) is None:
            return f"{tool} is not installed (apt-get install {package})"
    if os.uname().machine != "x86_64":
        return "the programs know the system calls of x86_64 only"
    if why := volume.why_not(Path("/var/tmp")):
        return f"no file systems can be mounted here: {why}"
    return ""


CAMPAIGN = Campaign(
    name="sandbox",
    title="A stranger's container gets nowhere",
    rows={
        "programs": Row(
            f"Hostile programs in real containers, {len(PROGRAMS)} different ones",
            "ends or is ended by its limit and is gone within 10 s; mounts, loop devices, kernel "
            "settings and modules, packet filter, network links, processes, containers, disk and "
            "the agent's files are as before",
        ),
        "attempts": Row(
            "Forbidden things that they tried, one by one", "refused, or not there at all"
        ),
        "scanned": Row(
            "Bytes of their logs and results, unpacked",
            "nothing that only the agent has is in them",
        ),
        "ordinary": Row(
            "Ordinary tasks of the same agent after a few hostile ones",
            "done, and charged for its own milliseconds",
        ),
        "beside": Row(
            "Ordinary tasks beside one that holds all it can get of what is counted by user: "
            "inotify, signals, timers, pipes, files on their way, message queues",
            "done",
        ),
        "restarts": Row(
            "Container engines ended and started again under a running task",
            "the attempt is the provider's failure, nothing is charged, nothing is left over, the "
            "next task is done",
        ),
        "lost": Row(
            "Leases lost under a program that hears no signal",
            "its container is gone within 10 s",
        ),
    },
    run=run,
    seeds=1,
    missing=missing,
)
