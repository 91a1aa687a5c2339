"""Pay per call with real processes: from `app deploy` to money on chain, and what goes wrong.

a call
    is answered, charged by its receipt, and verified against the chain
    sums of summaries, receipts, the channel's total and the chain agree to the unit
a provider killed in the middle of a call
    the call is repeated elsewhere and charged once
a gateway killed with a call on its way
    goes on in the same channel: nothing lost, nothing charged twice
an allowance that is used up
    pauses, and the next one resumes
a close requested with a call in flight
    redeems what is owed at once, and pays for nothing else
a consumer that keeps its session key
    opens its channel, signs for three calls and one that was left over; the chain pays to the unit
    what they cost, and the gateway's database has no key
"""

from __future__ import annotations

import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tallystick import CallResult, GPUClient, PaymentNeeded, TallystickError
from tallystick.devnet import LocalMarket, people
from tallystick.devnet.processes import clean_environment, program
from tallystick.protocol.call_views import CallView
from tallystick.protocol.wire import ChannelView
from tallystick.scaffold import write_project
from tests.e2e.scenario import Scenario

PATIENCE_S = 60.0
FEE = 10**15
"""What `deploy` publishes: 0.001 a call."""
HANDLER = """\
import time

from tallystick.app import handler


@handler
def greet(name: str, seconds: float = 0) -> dict[str, str]:
    time.sleep(seconds)
    return {"greeting": f"Hello, {name}!"}
"""


@dataclass
class Calls:
    """One app, and the consumer who pays for its calls."""

    client: GPUClient
    market: LocalMarket
    app: str

    def call(self, name: str = "world", **input: Any) -> CallResult:
        return self.client.call(self.app, {"name": name, **input}, timeout="1m")

    def in_background(self, **input: Any) -> Waiting:
        return Waiting(lambda: self.call(**input))

    def running(self) -> CallView:
        """The call that runs now, once a provider has it."""
        return eventually(
            lambda: next((c for c in self.client.calls() if c.state == "running"), None),
            "a running call",
        )

    def channels(self) -> list[ChannelView]:
        found = self.client.channels(payer=people.CONSUMER.address)
        return [one for one in found if one.deposited]

    def assert_sums_agree(self) -> int:
        """Charges of calls, receipts, the channels' last totals and the summary are one figure."""
        calls = [c for c in self.client.calls(limit=1000) if c.state == "completed"]
        by_channel: dict[str, list[CallView]] = {}
        for call in calls:
            by_channel.setdefault(call.channel_id, []).append(call)
        for of_one in by_channel.values():
            seqs = sorted(call.seq or 0 for call in of_one)
            assert seqs == list(range(1, len(seqs) + 1))
            assert sum(call.charge for call in of_one) == max(call.total for call in of_one)
        charged = sum(call.charge for call in calls)
        receipts = sum(self.client.call_receipt(call.call_id).charge for call in calls)
        page = self.client.summaries(group=("channel",))
        assert charged == receipts == page.sums.charge == sum(i.charge for i in page.items)
        return charged


class Waiting:
    """A call in a thread of its own."""

    def __init__(self, work: Callable[[], CallResult]) -> None:
        self._answer: CallResult | TallystickError | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], CallResult]) -> None:
        try:
            self._answer = work()
        except TallystickError as error:
            self._answer = error

    def answer(self) -> CallResult | TallystickError:
        self._thread.join(2 * PATIENCE_S)
        assert self._answer is not None, "the call has no answer"
        return self._answer


def eventually(look: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {PATIENCE_S} s for {what}")


@pytest.fixture(scope="module")
def paying(market: LocalMarket) -> Iterator[GPUClient]:
    settings = {**market.client_settings()}
    with GPUClient(**settings) as opened:
        opened.deposit("10")
        yield opened


@pytest.fixture(scope="module")
def calls(market: LocalMarket, paying: GPUClient) -> Calls:
    project = market.apps_dir / "greeter"
    write_project("greeter", project)
    (project / "handler.py").write_text(HANDLER)
    text = (project / "tallystick.toml").read_text()
    text = text.replace('warm_up = "handler:load"', "")
    text = text.replace("properties.language", "# properties.language")
    text = text.replace("additionalProperties = false", "")
    (project / "tallystick.toml").write_text(text)
    deployed = subprocess.run(
        [
            program("tallystick"),
            "app",
            "deploy",
            "--dir",
            str(project),
            "--image",
            "process",
            "--price-call",
            "0.001",
            "--yes",
        ],
        env=clean_environment(market.consumer_environment()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert deployed.returncode == 0, deployed.stderr
    assert "the app can be called there" in deployed.stderr
    paying.grant_allowance("5")
    app = deployed.stdout.split()[-1]
    made = Calls(paying, market, app)
    eventually(lambda: _called(made), "the first answer")
    return made


def _called(calls: Calls) -> bool:
    """The index has to see the app, and a provider to take it."""
    try:
        return bool(calls.call().output)
    except TallystickError:
        return False


def test_a_call_is_answered_charged_and_verified(calls: Calls, market: LocalMarket) -> None:
    answer = calls.call("Ada")
    assert answer.output == {"greeting": "Hello, Ada!"}
    assert answer.charge.units == FEE
    settings = clean_environment(market.consumer_environment())
    verified = subprocess.run(
        [program("tallystick"), "receipt", "verify", answer.call_id, "-i", "name=Ada"],
        env=settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "failed" not in verified.stdout
    calls.assert_sums_agree()


def test_a_provider_killed_in_the_middle_is_replaced_and_paid_once(
    calls: Calls, scenario: Scenario
) -> None:
    before = calls.assert_sums_agree()
    waiting = calls.in_background(name="Bo", seconds=5)
    first = calls.running()
    victim = scenario.number_of(first.provider)
    scenario.kill(f"provider-{victim}")
    answer = waiting.answer()
    assert isinstance(answer, CallResult), answer
    assert answer.output == {"greeting": "Hello, Bo!"}
    after = calls.client.call_info(answer.call_id)
    assert after.provider != first.provider
    assert after.attempts == 2
    assert calls.assert_sums_agree() == before + FEE
    scenario.market.start_provider(victim)


def test_a_gateway_killed_loses_nothing_and_charges_nothing_twice(
    calls: Calls, scenario: Scenario
) -> None:
    answer = calls.call("before")
    call = calls.client.submit_call(calls.app, {"name": "Cy", "seconds": 2})
    calls.running()
    scenario.kill("backend")
    scenario.market.start_backend()
    eventually(lambda: calls.client.call_info(call.call_id).state in ("completed", "failed"), "it")
    assert calls.client.verify_receipt(answer).ok
    again = calls.call("after")
    assert again.charge.units == FEE
    assert calls.client.verify_receipt(again).wrong == ()
    charged = calls.assert_sums_agree()
    completed = [c for c in calls.client.calls(limit=1000) if c.state == "completed"]
    assert charged == FEE * len(completed)


def test_a_close_with_a_call_in_flight_redeems_what_is_owed(
    calls: Calls, scenario: Scenario
) -> None:
    calls.call("warm")
    waiting = calls.in_background(name="Di", seconds=3)
    running = calls.running()
    for channel in calls.channels():
        calls.client.close_channel(channel.id)
    waiting.answer()
    charged = calls.assert_sums_agree()

    def redeemed() -> bool:
        return sum(one.claimed for one in calls.channels()) == charged

    eventually(redeemed, f"{charged} on chain")
    info = calls.client.call_info(running.call_id)
    assert info.charge in (0, FEE)
    done = next(c for c in calls.client.calls(limit=1000) if c.state == "completed")
    verdict = calls.client.verify_receipt(done.call_id)
    assert "redeemed" not in (*verdict.open, *verdict.wrong)


def test_an_allowance_that_is_used_up_pauses_and_resumes(
    market: LocalMarket, calls: Calls, scenario: Scenario
) -> None:
    """A second consumer, who has money for two calls."""
    other = people.provider(1)
    settings = {**market.client_settings(), "private_key": other.private_key}
    with GPUClient(**settings) as poor:
        market.run_script("fund", people.DEPLOYER, other.address, "1")
        poor.deposit("0.003")
        poor.grant_allowance("0.002")
        mine = Calls(poor, market, calls.app)
        assert [mine.call().charge.units for _ in range(2)] == [FEE, FEE]
        with pytest.raises(PaymentNeeded) as paused:
            mine.call()
        assert paused.value.values["problem"] in ("paused_funds", "no_allowance")
        poor.grant_allowance("0.001")
        assert mine.call().charge.units == FEE
        assert mine.assert_sums_agree() == 3 * FEE


def test_a_consumer_that_signs_for_its_calls_itself(
    market: LocalMarket, calls: Calls, tmp_path: Path
) -> None:
    me, provider = people.person("own signer", 35), people.provider(1)
    market.run_script("fund", people.DEPLOYER, me.address, "1")
    key_file, wallet_file = tmp_path / "own.key", tmp_path / "wallet.key"
    wallet_file.write_text(me.private_key)
    wallet_file.chmod(0o600)
    environment = market.consumer_environment() | {"TALLYSTICK_KEY_FILE": str(wallet_file)}

    def tallystick(*words: str) -> str:
        done = subprocess.run(
            [program("tallystick"), *words, "--own-key", str(key_file)],
            env=clean_environment(environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    settings = {**market.client_settings(), "private_key": me.private_key}
    with GPUClient(**settings) as bare:
        bare.deposit("0.1")
        channel = tallystick("channel", "open", provider.address, "0.01").strip()
        assert "Eva" in tallystick("call", calls.app, "-i", "name=Eva")
        # Asked for by a program that then ends: the next one signs for it before its own call.
    with GPUClient(**settings, own_key_file=str(key_file)) as mine:
        left = mine.submit_call(calls.app, {"name": "Flo"})
        eventually(lambda: mine.call_info(left.call_id).state == "completed", "the answer")
        answer = mine.call(calls.app, {"name": "Gus"})
        assert answer.output == {"greeting": "Hello, Gus!"}
        assert answer.total.units == 3 * FEE
        assert Calls(mine, market, calls.app).assert_sums_agree() == 3 * FEE
        assert mine.allowances() == ()
        mine.close_channel(channel)
        eventually(lambda: mine.channel(channel).claimed == 3 * FEE, "the redeemed voucher")
        for call in mine.calls():
            verdict = mine.verify_receipt(call.call_id)
            assert verdict.wrong == ()
            assert set(verdict.open) <= {"input", "result"}
        signer = mine.channel(channel).channel.signer
    key = key_file.read_text().strip().removeprefix("0x")
    database = market.plan.directory / "backend.db"
    files = [database, *database.parent.glob("backend.db-*")]
    assert not any(bytes.fromhex(key) in f.read_bytes() for f in files)
    assert not any(key.encode() in f.read_bytes() for f in files)
    with sqlite3.connect(database) as rows:
        held = {str(row[0]) for row in rows.execute("select signer from session_key")}
    assert signer.lower() not in held
