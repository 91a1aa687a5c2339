"""The marked steps: where a process is killed, named from outside of it.

A step is a function of the product and the side of it: `before` it begins, or `after` it returned
and before its caller goes on. Inside a transaction `after` means: written and not yet committed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Program: TypeAlias = Literal["consumer", "backend", "provider"]
Side: TypeAlias = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Step:
    stage: str
    """Of a task's or a call's way: the issue's words, from submit to redeem."""
    program: Program
    side: Side
    function: str
    """`module:name` or `module:Class.name`."""

    @property
    def name(self) -> str:
        return f"{self.stage}: {self.side} {self.function.rpartition(':')[2]} ({self.program})"


def _steps(stage: str, program: Program, *marks: str) -> Iterator[Step]:
    """Each mark is `sides module:function`, sides of `<` (before) and `>` (after)."""
    for mark in marks:
        sides, _, function = mark.partition(" ")
        if "<" in sides:
            yield Step(stage, program, "before", function)
        if ">" in sides:
            yield Step(stage, program, "after", function)


_API = "tallystick_backend"
_WORK = "tallystick_provider.work:Work"
_JOURNAL = "tallystick_provider.journal:Journal"
_LEDGER = "tallystick_provider.ledger:ChainLedger"
_END = "tallystick_backend.gateway.paying_end:PayingEnd"

STEPS: tuple[Step, ...] = (
    # A consumer's own program, which loses all it knew and did not write down.
    *_steps(
        "submit", "consumer", "<> tallystick.submitting:_send", "<> tallystick.submitting:_lock"
    ),
    *_steps("accept", "consumer", "<> tallystick.results:_accept"),
    # A task, on the backend's side.
    *_steps(
        "submit",
        "backend",
        f"<> {_API}.store.repositories.orders:add_order",
    ),
    *_steps(
        "index",
        "backend",
        f"<> {_API}.index.record:extend",
        f"> {_API}.index.record:_write",
        f"> {_API}.index.record:_append_events",
        f"> {_API}.index.record:_move_cursor",
        f"> {_API}.index.follow:Index._advance",
    ),
    *_steps(
        "lease",
        "backend",
        f"<> {_API}.dispatch.loop:Dispatcher._grant",
        f"> {_API}.dispatch.lease:give",
        f"<> {_API}.dispatch.loop:Dispatcher._offer",
        f"> {_API}.dispatch.lease:accept",
    ),
    *_steps(
        "heartbeat",
        "backend",
        f"> {_API}.dispatch.lease:beat",
        f"<> {_API}.dispatch.inbox:Inbox._heartbeat",
    ),
    *_steps(
        "result",
        "backend",
        f"<> {_API}.dispatch.inbox:Inbox._finished",
        f"> {_API}.dispatch.lease:finish",
        f"<> {_API}.blobs:BlobStore.receive",
    ),
    *_steps(
        "accept",
        "backend",
        f"> {_API}.store.repositories.orders:add_acceptance",
        f"<> {_API}.dispatch.loop:Dispatcher._tell_accepted",
        f"> {_API}.dispatch.lease:close",
    ),
    # A task, on the provider's side.
    *_steps("lease", "provider", f"<> {_JOURNAL}.accept"),
    *_steps(
        "start",
        "provider",
        f"<> {_JOURNAL}.fetched",
        "<> tallystick_provider.runtime.process:ProcessRuntime.start",
        f"> {_JOURNAL}.started",
        f"> {_JOURNAL}.running",
    ),
    *_steps("heartbeat", "provider", "<> tallystick_provider.inbox:Inbox.heartbeat"),
    *_steps("result", "provider", f"<> {_JOURNAL}.ended", f"<> {_WORK}.upload"),
    *_steps("receipt", "provider", f"<> {_JOURNAL}.sign_once", f"<> {_WORK}.report"),
    *_steps("accept", "provider", f"> {_JOURNAL}.keep_acceptance"),
    *_steps(
        "outbox",
        "provider",
        f"> {_LEDGER}.sign",
        f"> {_JOURNAL}.put_out",
        f"<> {_LEDGER}.broadcast",
        f"<> {_JOURNAL}.land",
        f"<> {_JOURNAL}.close_lease",
    ),
    # A call.
    *_steps(
        "call",
        "backend",
        f"<> {_API}.gateway.calling:Calls._drive",
        f"> {_END}._begin",
        f"> {_END}._send",
        f"<> {_API}.gateway.calling:Calls._finish",
    ),
    *_steps(
        "journal",
        "backend",
        f"<> {_API}.gateway.journal:Journal._write",
        f"<> {_API}.gateway.projection:Projection.store",
    ),
    *_steps("receipt", "backend", f"<> {_END}._arrive"),
    *_steps("voucher", "backend", f"<> {_END}._tell"),
    *_steps("fund", "backend", f"<> {_API}.gateway.funding:ChainFunds._fund"),
    *_steps(
        "call",
        "provider",
        "< tallystick_provider.calls.service:CallService.on_call",
        "<> tallystick_provider.calls.workers:AppWorkers.run",
    ),
    *_steps(
        "receipt",
        "provider",
        "< tallystick_provider.calls.service:_Call._sign",
        "<> tallystick_provider.calls.journal:CallJournal._commit",
        "> tallystick_provider.calls.service:_Call._sign",
    ),
    *_steps(
        "voucher",
        "provider",
        "<> tallystick_provider.calls.service:CallService.on_voucher",
    ),
    *_steps("redeem", "provider", "> tallystick_provider.calls.redeem:Redeemer.next_call"),
)
