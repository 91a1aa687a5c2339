"""Whole stories, played by nothing but the Brownie scripts, with every unit of money accounted for.

fees        a provider stakes, is delegated to, earns on a channel and by a task; everybody claims
fault       a watcher shows two histories: slash, jail, bounty, burn; the jail is lifted in its time
dispute     seats are drawn, three commit and reveal: refunded, or settled; or nobody ever draws
app         published, priced after notice, discounted, a version more, retired
channel     funded under an allowance, redeemed, asked to close, taken back, closed
task        by hand: cancelled and reclaimed; proven alone and finalized; a batch with a bad row
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tallystick.devnet import people
from tallystick.devnet.scripts import Scripts
from tallystick.protocol import codec, deployments, evidence, messages
from tallystick.protocol.apps import app_id
from tallystick.protocol.contracts import Call
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.merkle import gpu_set_root
from tallystick.protocol.messages import (
    Acceptance,
    Assignment,
    Channel,
    Receipt,
    TaskTerms,
    channel_id,
)
from tallystick.protocol.shares import Stream, earned_down
from tallystick.protocol.types import ZERO_DIGEST, Fence, TaskId
from tests.protocol.examples import receipt_of, terms_at
from tests.support.anvil import (
    DAY_S,
    DEPLOYER,
    DISPATCHER,
    STRANGER,
    TOKEN,
    TREASURY,
    LocalChain,
    Person,
    digest_of_word,
    give_ether,
    person,
    read,
    start_anvil,
)

UNIT = 100 * TOKEN
DEVELOPER = Person("developer", people.DEPLOYER.private_key, people.DEPLOYER.address)
BURNED = "0x000000000000000000000000000000000000dEaD"
VERIFIED = 1 + 256 * 1_000
"""Results must be equal; a checker repeats a tenth of the work."""

PRICES = ("flat=0", "call=0.001", "gpu-hour=0.36")
DRAW_BLOCKS = 9


class ScriptRefused(Exception):
    """A script ended with exit status 1; the text is all it said."""


@dataclass(frozen=True)
class Town:
    """A chain, its deployment, and the scripts."""

    chain: LocalChain
    deployment: Deployment
    scripts: Scripts
    folder: Path
    people: list[Person] = field(default_factory=list)
    channels: set[Channel] = field(default_factory=set)

    # --- people ------------------------------------------------------------------------------

    def newcomer(self, name: str, tokens: int = 0) -> Person:
        """With gas money and so many whole tokens."""
        someone = person(name)
        self.people.append(someone)
        give_ether(self.chain, someone.address)
        if tokens:
            self.run(DEPLOYER, "fund", someone.address, str(tokens))
        return someone

    def provider(self, name: str, *, units: int, tokens: int = 1_000) -> Person:
        """Staked, with one GPU less than its stake covers, and an operator key."""
        provider, hot = self.newcomer(name, tokens), self.newcomer(f"{name}'s key")
        self.run(provider, "stake", str(100 * units))
        gpus = [f"GPU-{name}-{number}" for number in range(max(1, units - 1))]
        self.run(provider, "register_gpus", *gpus, TALLYSTICK_OPERATOR_KEY=hot.key)
        return provider

    # --- acts --------------------------------------------------------------------------------

    def run(
        self, who: Person, script: str, *arguments: str, function: str = "main", **settings: str
    ) -> str:
        ran = self.scripts.run(script, who.key, *arguments, function=function, **settings)
        if ran.status:
            raise ScriptRefused(ran.said)
        return ran.said

    def refused(
        self, who: Person, script: str, *arguments: str, function: str = "main", **settings: str
    ) -> str:
        """What a script says that ends with status 1, in a sentence."""
        with pytest.raises(ScriptRefused) as refusal:
            self.run(who, script, *arguments, function=function, **settings)
        said = str(refusal.value)
        assert "error: " in said
        assert "Traceback" not in said
        return said

    def mine(self, blocks: int) -> None:
        self.chain.rpc("anvil_mine", hex(blocks))

    def file(self, name: str, content: Any) -> str:
        path = self.folder / name
        path.write_text(json.dumps(content))
        return str(path)

    # --- what the chain knows ----------------------------------------------------------------

    def ask(self, contract: codec.ContractName, function: str, *values: Any) -> tuple[Any, ...]:
        address = {
            "ComputeEscrow": self.deployment.escrow,
            "TaskMarket": self.deployment.market,
            "ProviderStaking": self.deployment.staking,
            "DisputeCourt": self.deployment.court,
            "AppRegistry": self.deployment.registry,
            "TallyToken": self.deployment.token,
        }[contract]
        call = Call(address, codec.encode_call(contract, function, *values))
        return codec.decode_answer(contract, function, read(self.chain, call))

    def wallet(self, owner: str) -> int:
        return int(self.ask("TallyToken", "balanceOf", owner)[0])

    def available(self, owner: str) -> int:
        return int(self.ask("ComputeEscrow", "accountOf", owner)[0])

    def locked(self, owner: str) -> int:
        return int(self.ask("ComputeEscrow", "accountOf", owner)[1])

    def credit(self, owner: str) -> int:
        return int(self.ask("ComputeEscrow", "payeeOf", owner)[0])

    def bonded(self, provider: str) -> int:
        return int(self.ask("ProviderStaking", "stakeOf", provider)[0])

    def is_jailed(self, provider: str) -> bool:
        return bool(self.ask("ProviderStaking", "isJailed", provider)[0])

    def bounty(self, owner: str) -> int:
        return int(self.ask("ProviderStaking", "bountyOf", owner)[0])

    # --- what people sign --------------------------------------------------------------------

    def vouchers(self, channel: Channel, signer: Person, total: int) -> str:
        self.channels.add(channel)
        voucher = channel.voucher(total, ZERO_DIGEST)
        body = {
            "voucher": json.loads(voucher.to_body().model_dump_json()),
            "signature": messages.sign(self.deployment.domain, voucher, signer.key),
        }
        return self.file(f"{channel_id(channel)}.json", [body])

    def terms(self, consumer: Person, **changes: Any) -> TaskTerms:
        """10 tokens flat and nothing else, on one GPU, no share for a dispatcher."""
        wanted = {
            "consumer": consumer.address,
            "flat": 10 * TOKEN,
            "rate_per_gpu_second": 0,
            "max_charge": 12 * TOKEN,
            "gpus": 1,
            "dispatcher_bps": 0,
        }
        return terms_at(self.chain.now_s(), **{**wanted, **changes})

    def task_id(self, terms: TaskTerms) -> TaskId:
        return messages.task_id(self.deployment.domain, terms)

    def worked(self, terms: TaskTerms, provider: Person) -> Receipt:
        """Ten seconds of it, until now."""
        started_s = self.chain.now_s() - 10
        return receipt_of(
            self.deployment, terms, started_s=started_s, seconds=10, provider=provider.address
        )

    def accepted(self, terms: TaskTerms, consumer: Person, provider: Person) -> str:
        """The file of a task whose result its consumer took."""
        domain, receipt = self.deployment.domain, self.worked(terms, provider)
        digest = messages.digest(domain, receipt)
        acceptance = Acceptance(self.task_id(terms), receipt.total, digest)
        return self.file(
            f"{terms.nonce}.json",
            {
                "terms": body_of(terms),
                "receipt": body_of(receipt),
                "receipt_signature": messages.sign(domain, receipt, provider.key),
                "acceptance_signature": messages.sign(domain, acceptance, consumer.key),
            },
        )

    def leased(self, terms: TaskTerms, provider: Person) -> str:
        """The file of a task that its provider proves alone."""
        domain, receipt = self.deployment.domain, self.worked(terms, provider)
        now = self.chain.now_s()
        assignment = Assignment(
            self.task_id(terms), provider.address, Fence(receipt.seq), now - 60, now + 3_600
        )
        return self.file(
            f"{terms.nonce}.json",
            {
                "terms": body_of(terms),
                "receipt": body_of(receipt),
                "receipt_signature": messages.sign(domain, receipt, provider.key),
                "assignment": body_of(assignment),
                "assignment_signature": messages.sign(domain, assignment, DISPATCHER.key),
            },
        )

    def proven(self, consumer: Person, provider: Person, **changes: Any) -> TaskId:
        """A task that its provider proved alone, by script."""
        terms = self.terms(consumer, **changes)
        file = self.file("task.json", {"terms": body_of(terms)})
        assert "12 TALLY are locked" in self.run(consumer, "task", file, function="create")
        self.chain.wait(60)
        said = self.run(STRANGER, "task", self.leased(terms, provider), function="prove_alone")
        assert f"10 TALLY wait for {provider.address}" in said
        return self.task_id(terms)


def body_of(message: Any) -> Any:
    return json.loads(message.to_body().model_dump_json())


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    with (
        start_anvil() as chain,
        Scripts(chain.url, folder, folder / "scripts.log", chain_id=31337) as scripts,
    ):
        scripts.run("deploy", DEPLOYER.key, TALLYSTICK_TREASURY=TREASURY.address)
        deployment = deployments.load(folder / "31337.json")
        yield Town(chain, deployment, scripts, folder)


# --- fees -------------------------------------------------------------------------------------


def test_fees_reach_provider_and_delegator(town: Town) -> None:
    run = town.run
    provider = town.provider("earning provider", units=3)
    delegator = town.newcomer("delegator", 100)
    consumer = town.newcomer("paying consumer", 100)
    treasury = town.wallet(TREASURY.address)
    assert "is 10 % from" in run(provider, "set_commission", "10")
    assert "delegated        100 TALLY" in run(delegator, "delegate", provider.address, "100")
    assert town.wallet(delegator.address) == 0
    town.chain.wait(7 * DAY_S)

    # 40 on a channel, straight to the wallet.
    run(consumer, "open_channel", provider.address, "50")
    channel = Channel(consumer.address, consumer.address, provider.address, 0)
    before = town.wallet(provider.address)
    file = town.vouchers(channel, consumer, 40 * TOKEN)
    assert "39.6 TALLY paid" in run(STRANGER, "redeem", file, function="wallet")
    assert town.wallet(provider.address) - before == 39_600_000_000_000_000_000

    # 10 by a signed order that the consumer accepted, by way of credit.
    assert "available        20 TALLY" in run(consumer, "account", "20", function="deposit")
    file = town.accepted(town.terms(consumer, nonce=101), consumer, provider)
    assert "charge 10 TALLY, 10 TALLY of it credit" in run(STRANGER, "task", file, function="prove")
    assert town.available(consumer.address) == 10 * TOKEN
    assert "9.9 TALLY paid" in run(STRANGER, "withdraw_credit", provider.address)
    assert town.wallet(provider.address) - before == 49_500_000_000_000_000_000

    # Of 0.5 set aside half is the treasury's; of the pool's half a tenth is commission.
    assert "0.5 TALLY (`brownie run withdraw_credit share_fees`)" in run(provider, "status")
    said = run(STRANGER, "withdraw_credit", provider.address, function="share_fees")
    assert "0.25 TALLY to the pool" in said
    assert "0.25 TALLY to the treasury" in said
    assert town.wallet(TREASURY.address) - treasury == 250_000_000_000_000_000
    again = run(STRANGER, "withdraw_credit", provider.address, function="share_fees")
    assert "no fees" in again
    assert "0.025 TALLY paid" in run(
        STRANGER, "claim_rewards", provider.address, function="commission"
    )
    assert town.wallet(provider.address) - before == 49_525_000_000_000_000_000

    # A week later the rest has flowed. What does not divide among the shares is carried.
    town.chain.wait(7 * DAY_S)
    run(delegator, "claim_rewards", provider.address)
    shares = town.ask("ProviderStaking", "delegationOf", provider.address, delegator.address)[0]
    flowed = Stream().add(225 * TOKEN // 1_000, 7 * DAY_S).advanced(shares, 8 * DAY_S)
    assert earned_down(shares, 0, flowed.per_share, 0)[0] == 224_999_999_999_999_999
    assert town.wallet(delegator.address) == 224_999_999_999_999_999
    assert "nothing to claim" in run(delegator, "claim_rewards", provider.address)

    # And out again: the delegation whole, 21 days after it was asked for.
    run(delegator, "undelegate", provider.address, "all")
    town.chain.wait(21 * DAY_S)
    assert "100 TALLY paid" in run(delegator, "undelegate", function="withdraw")
    assert town.wallet(delegator.address) == 100 * TOKEN + 224_999_999_999_999_999


# --- fault ------------------------------------------------------------------------------------


def test_a_watcher_is_paid_for_two_histories(town: Town) -> None:
    run = town.run
    liar = town.provider("liar", units=2)
    old_key, new_key = person("liar's key"), town.newcomer("liar's new key")
    watcher = town.newcomer("watcher")
    run(liar, "register_gpus", function="withdraw")
    run(liar, "seat", function="take")

    # The key that lied is retired first, and is answerable all the same.
    said = run(
        liar,
        "operator_key",
        old_key.address,
        function="rotate",
        TALLYSTICK_OPERATOR_KEY=new_key.key,
    )
    assert f"{new_key.address} signs for {liar.address}" in said
    assert f"{old_key.address} is retired" in said
    assert "was retired by" in run(watcher, "operator_key", old_key.address, function="show")
    assert "already" in town.refused(liar, "operator_key", old_key.address, function="retire")

    now_ms = town.chain.now_s() * 1_000
    consumer = person("somebody")
    channel = Channel(consumer.address, consumer.address, liar.address, 3)
    receipt = Receipt(
        provider=liar.address,
        route=channel_id(channel),
        seq=1,
        prev=ZERO_DIGEST,
        request=digest_of_word(1),
        result=digest_of_word(2),
        gpu_set=ZERO_DIGEST,
        started_at_ms=now_ms - 10_000,
        ended_at_ms=now_ms,
        calls=1,
        gpu_ms=10_000,
        usage_root=ZERO_DIGEST,
        total=TOKEN,
    )
    receipts = signed_pair(town, old_key, receipt, replace(receipt, total=2 * TOKEN))
    file = town.file("evidence.json", receipts)
    burned = town.wallet(BURNED)
    said = run(watcher, "report_fault", file)
    assert f"20 TALLY of bounties wait for {watcher.address}" in said
    assert town.bonded(liar.address) == UNIT
    assert town.is_jailed(liar.address)

    assert "20 TALLY paid" in run(STRANGER, "claim_rewards", watcher.address, function="bounty")
    assert town.wallet(watcher.address) == 20 * TOKEN
    assert "80 TALLY burned" in run(STRANGER, "report_fault", function="burn")
    assert town.wallet(BURNED) - burned == 80 * TOKEN
    assert "waits to be burned" in run(STRANGER, "report_fault", function="burn")
    assert "no seat now" in run(STRANGER, "seat", liar.address, function="dismiss")

    assert "can be lifted from" in town.refused(liar, "set_commission", function="unjail")
    town.chain.wait(7 * DAY_S)
    assert "is free" in run(liar, "set_commission", function="unjail")
    assert not town.is_jailed(liar.address)
    assert "is not jailed" in run(liar, "set_commission", function="unjail")


def test_a_jail_is_lifted_with_a_unit_of_stake_only(town: Town) -> None:
    liar, watcher = town.provider("poor liar", units=1), town.newcomer("other watcher")
    receipts = two_of_one_place(town, liar)
    town.run(watcher, "report_fault", town.file("poor.json", receipts))
    assert town.bonded(liar.address) == 0
    assert "80 TALLY burned" in town.run(watcher, "report_fault", function="burn")
    town.chain.wait(7 * DAY_S)
    assert "stake main 1gpus" in town.refused(liar, "set_commission", function="unjail")
    town.run(liar, "stake", "1gpus")
    assert "is free" in town.run(liar, "set_commission", function="unjail")


@pytest.mark.parametrize("kind", ["broken chain", "GPU sold twice"])
def test_the_other_faults_cost_a_unit_too(town: Town, kind: str) -> None:
    liar = town.provider(f"liar of a {kind}", units=2)
    watcher = town.newcomer(f"watcher of a {kind}")
    pair, more = (broken_chain if kind == "broken chain" else gpu_sold_twice)(town, liar)
    file = town.file("fault.json", {**signed_pair(town, liar, *pair), **more})
    assert "shows that" in town.run(watcher, "report_fault", file, function="check")
    assert town.bonded(liar.address) == 2 * UNIT
    assert "20 TALLY of bounties" in town.run(watcher, "report_fault", file)
    assert town.bonded(liar.address) == UNIT
    assert town.is_jailed(liar.address)
    assert "punished already" in town.refused(watcher, "report_fault", file)
    town.run(watcher, "claim_rewards", function="bounty")
    assert town.wallet(watcher.address) == 20 * TOKEN
    assert "80 TALLY burned" in town.run(watcher, "report_fault", function="burn")


def broken_chain(town: Town, liar: Person) -> tuple[tuple[Receipt, Receipt], dict[str, Any]]:
    """Neighbours on a channel, of which the later names another one before it."""
    payer = person("somebody").address
    channel = Channel(payer, payer, liar.address, 4)
    receipt = replace(
        town.worked(town.terms(person("nobody")), liar), route=channel_id(channel), total=TOKEN
    )
    later = replace(receipt, seq=2, prev=digest_of_word(6), total=2 * TOKEN)
    return (receipt, later), {"channel": json.loads(channel.to_body().model_dump_json())}


def gpu_sold_twice(town: Town, liar: Person) -> tuple[tuple[Receipt, Receipt], dict[str, Any]]:
    """One card, exclusively for two tasks in the same ten seconds."""
    ids = ["GPU-1", "GPU-2"], ["GPU-2", "GPU-3", "GPU-4"]
    one = replace(town.worked(town.terms(person("nobody")), liar), gpu_set=gpu_set_root(ids[0]))
    other = replace(one, route=digest_of_word(7), gpu_set=gpu_set_root(ids[1]))
    return (one, other), {"gpusOne": ids[0], "gpusOther": ids[1]}


def two_of_one_place(town: Town, liar: Person) -> dict[str, Any]:
    """A task's receipt and another, both by the provider's own key."""
    terms = town.terms(person("nobody"))
    receipt = town.worked(terms, liar)
    return signed_pair(town, liar, receipt, replace(receipt, result=digest_of_word(5)))


def signed_pair(town: Town, signer: Person, one: Receipt, other: Receipt) -> dict[str, Any]:
    """As report_fault reads it."""
    return {
        name: {
            "receipt": body_of(shown),
            "signature": messages.sign(town.deployment.domain, shown, signer.key),
        }
        for name, shown in (("one", one), ("other", other))
    }


# --- dispute ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seats(town: Town) -> dict[str, Person]:
    """Four providers with a listed seat each, by address."""
    people = [town.provider(f"checker {number}", units=2) for number in range(4)]
    for one in people:
        town.run(one, "register_gpus", function="withdraw")
        assert "can be listed from" in town.run(one, "seat", function="take")
    town.chain.wait(DAY_S)
    # In one second or in several: the first of a second costs more than the others.
    for one in people:
        assert "has one of" in town.run(STRANGER, "seat", one.address, function="list_it")
    town.chain.wait(1)
    return {one.address: one for one in people}


def drawn_by_script(town: Town, seats: dict[str, Person], task: TaskId) -> list[Person]:
    assert "too early" in town.refused(STRANGER, "dispute", task, function="draw")
    town.mine(DRAW_BLOCKS)
    said = town.run(STRANGER, "dispute", task, function="draw")
    found = [one for address, one in seats.items() if f"{address}: has not committed" in said]
    assert len(found) == 3
    return found


def test_a_wrong_result_is_refunded_and_slashed(town: Town, seats: dict[str, Person]) -> None:
    run = town.run
    consumer = town.newcomer("doubting consumer", 100)
    provider = town.provider("wrong provider", units=2)
    run(consumer, "account", "20", function="deposit")
    task = town.proven(consumer, provider, nonce=201, verification=VERIFIED)
    assert town.locked(consumer.address) == 10 * TOKEN

    assert "only its consumer" in town.refused(STRANGER, "dispute", task)
    said = run(consumer, "dispute", task)
    assert "the bond of 6 TALLY and the charge wait" in said  # 3 * a tenth of 10, and a floor of 3
    assert town.available(consumer.address) == 4 * TOKEN
    assert "disputed, and not" in town.refused(consumer, "dispute", task)

    first, second, third = drawn_by_script(town, seats, task)
    others = [one for one in seats.values() if one not in (first, second, third)]
    assert "is not drawn" in town.refused(others[0], "vote", task, "right", function="commit")
    assert "no vote" in town.refused(first, "vote", task, "maybe", function="commit")
    hot = person(f"{first.name}'s key")  # an operator key votes for its provider
    assert f"{first.address} has committed" in run(hot, "vote", task, "wrong", function="commit")
    run(second, "vote", task, "no-result", function="commit")
    run(third, "vote", task, "right", function="commit")
    assert "committed already" in town.refused(third, "vote", task, "wrong", function="commit")
    assert "others still commit" in town.refused(third, "vote", task, function="reveal")
    assert "may still speak" in town.refused(STRANGER, "dispute", task, function="conclude")

    town.chain.wait(DAY_S + 1)
    assert "not of this key" in town.refused(first, "vote", task, function="reveal")
    assert f"{first.address} says: wrong" in run(hot, "vote", task, function="reveal")
    assert "got no result" in run(second, "vote", task, function="reveal")
    assert "says: right" in run(third, "vote", task, function="reveal")
    assert "has said already" in run(third, "vote", task, function="reveal")

    burned = town.wallet(BURNED)
    said = run(STRANGER, "dispute", task, function="conclude")
    assert "the bond of 6 TALLY are available" in said
    assert f"{provider.address} lost 100 TALLY" in said
    assert (town.available(consumer.address), town.locked(consumer.address)) == (20 * TOKEN, 0)
    assert town.credit(provider.address) == 0
    assert town.bonded(provider.address) == UNIT
    assert town.is_jailed(provider.address)
    for checker, expected in ((first, 10 * TOKEN), (second, 10 * TOKEN), (third, 0)):
        before = town.wallet(checker.address)
        run(STRANGER, "claim_rewards", checker.address, function="bounty")
        assert town.wallet(checker.address) - before == expected
    run(STRANGER, "report_fault", function="burn")
    assert town.wallet(BURNED) - burned == 80 * TOKEN
    offence = evidence.offence_of_task(task)
    assert town.ask("ProviderStaking", "isPunished", offence) == (True,)
    assert "unknown, settled or refunded" in run(consumer, "dispute", task, function="show")


def test_a_right_result_is_paid_and_the_bond_with_it(town: Town, seats: dict[str, Person]) -> None:
    run = town.run
    consumer = town.newcomer("mistaken consumer", 100)
    provider = town.provider("right provider", units=2)
    run(consumer, "account", "20", function="deposit")
    task = town.proven(consumer, provider, nonce=202, verification=VERIFIED)
    run(consumer, "dispute", task)
    drawn = drawn_by_script(town, seats, task)
    for checker, vote in zip(drawn, ("right", "no-input", "wrong"), strict=True):
        run(checker, "vote", task, vote, function="commit")
    town.chain.wait(DAY_S + 1)
    for checker in drawn:
        run(checker, "vote", task, function="reveal")
    before = [town.credit(checker.address) for checker in drawn]
    said = run(STRANGER, "dispute", task, function="conclude")
    assert "2 TALLY for each checker" in said
    earned = [town.credit(c.address) - b for c, b in zip(drawn, before, strict=True)]
    assert earned == [2 * TOKEN, 2 * TOKEN, 0]
    # The charge, and what is left of the bond.
    assert town.credit(provider.address) == 10 * TOKEN + 2 * TOKEN
    assert town.available(consumer.address) == 4 * TOKEN
    assert town.bonded(provider.address) == 2 * UNIT


def test_silent_checkers_lose_a_tenth_and_three_others_are_drawn(
    town: Town, seats: dict[str, Person]
) -> None:
    run = town.run
    consumer = town.newcomer("unheard consumer", 100)
    provider = town.provider("unheard provider", units=2)
    run(consumer, "account", "20", function="deposit")
    task = town.proven(consumer, provider, nonce=203, verification=VERIFIED)
    run(consumer, "dispute", task)
    drawn = drawn_by_script(town, seats, task)
    before = [town.bonded(one.address) for one in drawn]
    run(drawn[0], "vote", task, "right", function="commit")
    town.chain.wait(DAY_S + 1)
    run(drawn[0], "vote", task, function="reveal")
    town.chain.wait(DAY_S + 1)
    assert "too late" in town.refused(drawn[1], "vote", task, "wrong", function="commit")
    said = run(STRANGER, "dispute", task, function="conclude")
    assert "three others are drawn" in said
    lost = [b - town.bonded(one.address) for one, b in zip(drawn, before, strict=True)]
    assert lost == [0, UNIT // 10, UNIT // 10]
    # Two are jailed and cannot be drawn: nobody ever is, and the market settles by itself.
    town.mine(DRAW_BLOCKS)
    assert "TooFewSeats" in town.refused(STRANGER, "dispute", task, function="draw")
    assert "the court has until" in town.refused(STRANGER, "dispute", task, function="end")
    town.chain.wait(4 * DAY_S)
    assert "no verdict: settled" in run(STRANGER, "dispute", task, function="end")
    assert town.credit(provider.address) == 10 * TOKEN
    assert (town.available(consumer.address), town.locked(consumer.address)) == (10 * TOKEN, 0)


# --- app --------------------------------------------------------------------------------------


def test_an_app_lives_and_ends(town: Town) -> None:
    run = town.run
    publisher = town.newcomer("publisher")
    manifest = town.file("manifest.json", {"gpus": 1})
    image = "sha256:" + "6d" * 32
    run(publisher, "publish_app", "llama", image, manifest, "ipfs://m", *PRICES)
    deployed = town.deployment
    app = app_id(31337, deployed.registry, publisher.address, digest_of(b"llama"))

    def price(version: int, at: int) -> tuple[int, ...]:
        return tuple(town.ask("AppRegistry", "priceAt", app, version, at)[0])

    second = TOKEN // 10_000  # 0.36 an hour
    now = town.chain.now_s()
    assert price(1, now) == (0, TOKEN // 1_000, second)
    run(publisher, "set_price", "llama", "1", "flat=2", "call=0.002", "gpu-hour=0.72")
    changed = town.chain.now_s() + DAY_S
    run(publisher, "set_price", "llama", "25", "2d", "1d", function="discount")
    begins = town.chain.now_s() - 1 + 2 * DAY_S  # the script counts from the block before its own
    words = ("llama", image, manifest, "ipfs://n", "flat=1", "call=0", "gpu-hour=0")
    assert "version 2 of llama" in run(publisher, "publish_app", *words, function="version")
    assert price(1, changed - 1) == (0, TOKEN // 1_000, second)
    assert price(1, changed) == (2 * TOKEN, TOKEN // 500, 2 * second)
    assert price(1, begins + 60) == (3 * TOKEN // 2, 3 * TOKEN // 2_000, 3 * second // 2)
    assert price(2, begins + 60) == (3 * TOKEN // 4, 0, 0)
    assert price(1, begins + 2 * DAY_S) == (2 * TOKEN, TOKEN // 500, 2 * second)

    said = town.refused(publisher, "publish_app", "llama", function="retire")
    assert "no way back" in said
    run(publisher, "publish_app", "llama", "forever", function="retire")
    gone = town.chain.now_s() + DAY_S
    assert "no price: retired" in run(publisher, "set_price", "llama", "30d", function="show")
    town.chain.set_time(gone)
    assert "retired" in run(publisher, "set_price", "llama", function="show")
    said = town.refused(publisher, "publish_app", *words, function="version")
    assert "(AppIsRetired)" in said


# --- channel ----------------------------------------------------------------------------------


def test_a_session_key_spends_within_its_allowance(town: Town) -> None:
    run, file = town.run, str(town.folder / "allowance.json")
    payer, session = town.newcomer("payer", 60), town.newcomer("session key")
    provider = town.provider("channel provider", units=1)
    run(payer, "account", "60", function="deposit")
    said = run(payer, "allowance", session.address, "50", "30d", file, function="sign")
    assert "may move 50 TALLY in all" in said
    assert session.key not in Path(file).read_text()
    assert payer.key not in Path(file).read_text()

    salt = {"TALLYSTICK_CHANNEL_SALT": "9"}
    said = run(session, "allowance", file, provider.address, "30", function="fund", **salt)
    assert "spent              30 TALLY of 50 TALLY" in said
    said = town.refused(session, "allowance", file, provider.address, "21", function="fund", **salt)
    assert "20 TALLY are left of the allowance" in said
    said = town.refused(payer, "allowance", file, provider.address, "1", function="fund", **salt)
    assert f"is for {session.address} to use" in said
    assert town.available(payer.address) == 30 * TOKEN

    channel = Channel(payer.address, session.address, provider.address, 9)
    vouchers = town.vouchers(channel, session, 12 * TOKEN)
    assert "12 TALLY credited" in run(provider, "redeem", vouchers)
    assert town.credit(provider.address) == 12 * TOKEN

    named = {**salt, "TALLYSTICK_CHANNEL_SIGNER": session.address}
    run(payer, "close_channel", provider.address, **named)
    run(payer, "close_channel", provider.address, function="cancel", **named)
    run(payer, "close_channel", provider.address, **named)
    assert "not yet" in run(payer, "close_channel", provider.address, function="finish", **named)
    town.chain.wait(3 * DAY_S)
    said = run(payer, "close_channel", provider.address, function="finish", **named)
    assert "18 TALLY available" in said
    assert town.available(payer.address) == 48 * TOKEN

    assert "moves nothing any more" in run(payer, "allowance", file, function="revoke")
    assert "revoked already" in run(payer, "allowance", file, function="revoke")
    said = town.refused(session, "allowance", file, provider.address, "1", function="fund", **salt)
    assert "revoked the allowance" in said
    assert "not 49 TALLY" in town.refused(payer, "account", "49", function="withdraw")
    run(payer, "account", "48", function="withdraw")
    assert town.wallet(payer.address) == 48 * TOKEN
    held = town.wallet(provider.address)
    run(provider, "withdraw_credit")
    assert town.wallet(provider.address) - held == 11_880_000_000_000_000_000


def test_an_account_that_the_node_has_unlocked_can_sign(town: Town) -> None:
    """Anvil holds its first account's key, and Brownie then drops the one it was given."""
    payer, file = DEVELOPER, str(town.folder / "unlocked.json")
    town.run(DEPLOYER, "fund", payer.address, "5")
    town.run(payer, "account", "5", function="deposit")
    town.run(payer, "allowance", STRANGER.address, "5", "1d", file, function="sign")
    provider = town.newcomer("somebody's provider")
    said = town.run(STRANGER, "allowance", file, provider.address, "5", function="fund")
    assert "spent              5 TALLY of 5 TALLY" in said
    channel = Channel(payer.address, STRANGER.address, provider.address, 0)
    town.vouchers(channel, STRANGER, 5 * TOKEN)
    assert town.available(payer.address) == 0


# --- task -------------------------------------------------------------------------------------


def test_a_task_is_cancelled_and_reclaimed(town: Town) -> None:
    run, consumer = town.run, town.newcomer("changing consumer", 20)
    run(consumer, "account", "20", function="deposit")
    terms = town.terms(consumer, nonce=301)
    task, file = town.task_id(terms), town.file("301.json", {"terms": body_of(terms)})
    assert "add `terms_signature`" in town.refused(STRANGER, "task", file, function="create")
    run(consumer, "task", file, function="create")
    assert "is open" not in run(consumer, "task", task, function="show")
    assert "wait, or cancel" in town.refused(STRANGER, "task", task, function="reclaim")
    assert "only its consumer" in town.refused(STRANGER, "task", task, function="cancel")
    assert "can be proven until" in run(consumer, "task", task, function="cancel")
    town.chain.wait(3_601)
    assert "12 TALLY available" in run(STRANGER, "task", task, function="reclaim")
    assert (town.available(consumer.address), town.locked(consumer.address)) == (20 * TOKEN, 0)


def test_a_proof_stands_when_nobody_doubts_it(town: Town) -> None:
    run, consumer = town.run, town.newcomer("content consumer", 20)
    provider = town.provider("patient provider", units=2)
    run(consumer, "account", "20", function="deposit")
    task = town.proven(consumer, provider, nonce=302)
    assert "no verification" in town.refused(consumer, "dispute", task)
    assert "window is open" in town.refused(STRANGER, "task", task, function="finalize")
    assert "challenge window   until" in run(STRANGER, "task", task, function="show")
    town.chain.wait(DAY_S + 1)
    assert "is settled: charge 10 TALLY" in run(STRANGER, "task", task, function="finalize")
    assert town.credit(provider.address) == 10 * TOKEN
    assert (town.available(consumer.address), town.locked(consumer.address)) == (10 * TOKEN, 0)


def test_a_batch_pays_what_can_be_paid(town: Town) -> None:
    run, consumer = town.run, town.newcomer("ordering consumer", 40)
    provider = town.provider("batch provider", units=2)
    run(consumer, "account", "40", function="deposit")
    created = town.terms(consumer, nonce=303)
    run(consumer, "task", town.file("c.json", {"terms": body_of(created)}), function="create")
    town.chain.wait(60)
    files = [
        town.accepted(created, consumer, provider),
        town.accepted(town.terms(consumer, nonce=304), consumer, provider),
        town.accepted(town.terms(consumer, nonce=305), provider, provider),
    ]
    said = run(STRANGER, "task", *files, function="prove")
    assert said.count("is settled") == 2
    assert f"{files[2]} is left out: " in said
    assert town.credit(provider.address) == 20 * TOKEN
    assert town.available(consumer.address) == 20 * TOKEN


def test_an_operator_key_consents_where_it_lives(town: Town) -> None:
    provider, hot = town.newcomer("careful provider"), town.newcomer("careful key")
    said = town.run(
        STRANGER,
        "operator_key",
        provider.address,
        function="consent",
        TALLYSTICK_OPERATOR_KEY=hot.key,
    )
    printed = dict(line.split("=", 1) for line in said.splitlines() if "TALLYSTICK_" in line)
    assert hot.key not in said
    town.run(provider, "operator_key", function="bind", **printed)
    said = town.run(STRANGER, "operator_key", hot.address, function="show")
    assert f"signs for {provider.address}" in said
    town.run(provider, "operator_key", hot.address, function="retire")
    said = town.refused(provider, "operator_key", function="bind", **printed)
    assert "was retired: make a new one" in said


def test_the_escrow_holds_what_it_owes_and_nothing_else(town: Town) -> None:
    """After all of these stories, to the unit."""
    owed = 0
    for someone in town.people:
        owed += sum(town.ask("ComputeEscrow", "accountOf", someone.address))
        owed += sum(town.ask("ComputeEscrow", "payeeOf", someone.address))
    for channel in town.channels:
        deposited, claimed, _ = town.ask("ComputeEscrow", "channelOf", channel_id(channel))
        owed += deposited - claimed
    assert town.wallet(town.deployment.escrow) == owed


# --- nonsense ---------------------------------------------------------------------------------

TASK = "0x" + "ab" * 32


@pytest.mark.parametrize(
    ("script", "function", "arguments", "said"),
    [
        ("account", "deposit", (), "how much"),
        ("account", "deposit", ("1e60",), "does not fit"),
        ("account", "withdraw", ("5", "0x12"), "not an address"),
        ("allowance", "sign", (), "for whom, how much"),
        ("allowance", "sign", (STRANGER.address, "5", "soon", "a.json"), "is no time"),
        ("allowance", "sign", (STRANGER.address, "5", "2020-01-01T00:00", "a.json"), "is past"),
        ("allowance", "fund", ("nowhere.json", STRANGER.address, "5"), "cannot be read"),
        ("allowance", "revoke", ("0x12",), "not a digest"),
        ("operator_key", "consent", (STRANGER.address,), "set TALLYSTICK_OPERATOR_KEY"),
        ("operator_key", "bind", (), "which key?"),
        ("operator_key", "retire", (STRANGER.address,), "is no key of"),
        ("seat", "dismiss", (), "whose?"),
        ("seat", "dismiss", (STRANGER.address,), "has no seat"),
        ("dispute", "main", (), "which task?"),
        ("dispute", "main", ("0x12",), "not a digest"),
        ("dispute", "main", (TASK,), "unknown, settled or refunded, and not proven"),
        ("dispute", "draw", (TASK,), "and not disputed"),
        ("vote", "commit", (TASK, "right"), "and not disputed"),
        ("vote", "reveal", (TASK,), "and not disputed"),
        ("task", "create", (), "which task?"),
        ("task", "create", ("nowhere.json",), "cannot be read"),
        ("task", "prove", (), "which task?"),
        ("task", "finalize", (TASK,), "and not proven"),
        ("task", "cancel", (TASK,), "and not open"),
        ("withdraw_credit", "share_fees", ("0x12",), "not an address"),
    ],
)
def test_nonsense_is_answered_with_a_sentence(
    town: Town, script: str, function: str, arguments: tuple[str, ...], said: str
) -> None:
    assert said in town.refused(STRANGER, script, *arguments, function=function)


def test_a_task_file_says_what_it_lacks(town: Town) -> None:
    provider = town.newcomer("forgetful provider")
    terms = town.terms(person("no consumer"), nonce=400)
    bare = town.file("bare.json", {"terms": body_of(terms)})
    assert "lacks `receipt`" in town.refused(provider, "task", bare, function="prove")
    lonely = json.loads(Path(town.leased(terms, provider)).read_text())
    file = town.file("lonely.json", {**lonely, "assignment": None})
    assert "lacks `receipt_signature`, `assign" in town.refused(
        provider, "task", file, function="prove_alone"
    )
    file = town.file("wide.json", {**lonely, "color": "red"})
    assert "color" in town.refused(provider, "task", file, function="prove_alone")
    assert "`prove_alone`" in town.refused(
        provider, "task", town.leased(terms, provider), function="prove"
    )


def test_an_rpc_that_answers_few_blocks_is_given_a_start(town: Town) -> None:
    consumer = town.newcomer("late consumer", 20)
    town.run(consumer, "account", "20", function="deposit")
    terms = town.terms(consumer, nonce=401)
    file = town.file("401.json", {"terms": body_of(terms)})
    town.run(consumer, "task", file, function="create")
    task, head = town.task_id(terms), str(town.chain.head())
    town.mine(1)
    for start, expected in (
        ("yesterday", "give a block's number"),
        (str(town.chain.head()), "earlier block"),
        ("9999999", "does not answer for the blocks from 9999999"),
    ):
        said = town.refused(consumer, "task", task, function="cancel", TALLYSTICK_FROM_BLOCK=start)
        assert expected in said
    town.run(consumer, "task", task, function="cancel", TALLYSTICK_FROM_BLOCK=head)
