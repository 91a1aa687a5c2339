"""Reads and calls against the deployed contracts: a task goes each of its ways, told by its events.

from      verb                        to
nothing   createTask                  Open
Open      prove with acceptance       settled
nothing   prove with acceptance       settled
Open      proveAlone, finalize        Proven, settled
Open      cancel, reclaim             refunded
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol import messages
from tallystick.protocol.contracts import (
    AcceptedProof,
    Account,
    Escrow,
    Market,
    ProvenWork,
    Staking,
    TaskState,
    TaskStatus,
    Token,
    Usage,
)
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ContractError, MessageError
from tallystick.protocol.events import (
    CreditWithdrawn,
    Deposited,
    GpusRegistered,
    OperatorKeyBound,
    OperatorKeyRetired,
    PayoutAddressSet,
    ProofSkipped,
    Staked,
    StakeWithdrawn,
    TaskCancelled,
    TaskCreated,
    TaskProven,
    TaskRefunded,
    TaskSettled,
    UnbondRequested,
    Withdrawn,
)
from tallystick.protocol.merkle import gpu_set_root
from tallystick.protocol.messages import Acceptance, ChannelAllowance, OperatorKey, Voucher
from tallystick.protocol.permits import sign_permit
from tallystick.protocol.pricing import split_charge_down
from tallystick.protocol.types import ZERO_DIGEST, Signature, to_address
from tests.protocol.examples import accepted, leased, receipt_of, terms_at, terms_of
from tests.protocol.test_messages import VECTORS, message_of
from tests.support.anvil import (
    APP_OWNER,
    CONSUMER,
    DAY_S,
    DISPATCHER,
    OPERATOR,
    PROVIDER,
    STAKE_UNIT,
    STRANGER,
    TOKEN,
    LocalChain,
    emitted,
    fund,
    send,
)


@pytest.fixture
def contract(deployment: Deployment, web3: Any) -> Market:
    return Market(web3, deployment.market)


@pytest.fixture
def escrow(deployment: Deployment, web3: Any) -> Escrow:
    return Escrow(web3, deployment.escrow)


@pytest.fixture
def staking(deployment: Deployment, web3: Any) -> Staking:
    return Staking(web3, deployment.staking)


class TestDigests:
    """The compiled `digestOf...` views, over every vector on file (security case 38)."""

    async def test_equal_the_kernels(
        self, deployment: Deployment, contract: Market, escrow: Escrow, staking: Staking
    ) -> None:
        for vector in VECTORS:
            message = message_of(vector)
            if isinstance(message, OperatorKey):
                actual = await staking.digest_of(message)
            elif isinstance(message, Voucher | ChannelAllowance):
                actual = await escrow.digest_of(message)
            else:
                actual = await contract.digest_of(message)
            assert actual == messages.digest(deployment.domain, message), vector["type"]

    async def test_equal_the_digests_on_file_where_the_domain_is_ours(
        self, deployment: Deployment, contract: Market, escrow: Escrow
    ) -> None:
        separator = "0x" + messages.domain_separator(deployment.domain).hex()
        assert await contract.domain_separator() == separator
        assert await escrow.domain_separator() == separator


class TestTheReceipt:
    async def test_is_completed_by_the_market_as_the_provider_signed_it(
        self, market: LocalChain, deployment: Deployment, contract: Market
    ) -> None:
        terms = terms_of(market)
        receipt = receipt_of(deployment, terms, started_s=market.now_s(), seconds=61)
        completed, digest = await contract.receipt(terms, Usage.of(receipt))
        assert completed == receipt
        assert digest == messages.digest(deployment.domain, receipt)


class TestATaskWithAcceptance:
    async def test_created_then_settled(
        self, market: LocalChain, deployment: Deployment, contract: Market, escrow: Escrow
    ) -> None:
        terms = terms_of(market, royalty_to=APP_OWNER.address, royalty_bps=250)
        task = messages.task_id(deployment.domain, terms)

        mined = send(market, CONSUMER, contract.create_task(terms))
        (created,) = emitted(market, deployment, mined)
        assert created == TaskCreated(task, CONSUMER.address, DISPATCHER.address, terms, created.at)
        assert await contract.task(task) == TaskState(TaskStatus.OPEN, 0)
        assert await contract.nonce_used(CONSUMER.address, terms.nonce)
        assert await escrow.account(CONSUMER.address) == Account(48 * TOKEN, 2 * TOKEN)

        market.wait(100)
        receipt = receipt_of(deployment, terms, started_s=market.now_s() - 90, seconds=61)
        mined = send(market, STRANGER, contract.prove(accepted(deployment, terms, receipt)))
        (settled,) = emitted(market, deployment, mined)
        assert isinstance(settled, TaskSettled)
        shares = split_charge_down(terms, receipt.total)
        assert settled.charge == receipt.total
        assert settled.receipt == messages.digest(deployment.domain, receipt)
        assert settled.dispatcher_share == shares.dispatcher
        assert settled.royalty_share == shares.royalty
        assert settled.provider_share == shares.provider
        assert settled.at.timestamp_s == market.now_s()
        assert (await escrow.payee(PROVIDER.address)).credit == shares.provider
        assert (await escrow.payee(APP_OWNER.address)).credit == shares.royalty
        assert await escrow.account(CONSUMER.address) == Account(50 * TOKEN - receipt.total, 0)
        assert await contract.task(task) == TaskState(TaskStatus.NONE, 0)

    async def test_created_by_a_stranger_with_the_consumers_signature(
        self, market: LocalChain, deployment: Deployment, contract: Market
    ) -> None:
        terms = terms_of(market)
        signature = messages.sign(deployment.domain, terms, CONSUMER.key)
        mined = send(market, STRANGER, contract.create_task(terms, signature))
        assert isinstance(emitted(market, deployment, mined)[0], TaskCreated)

    @pytest.mark.parametrize("by", ["terms", "acceptance"])
    async def test_a_signed_order_settles_from_nothing(
        self, market: LocalChain, deployment: Deployment, contract: Market, by: str
    ) -> None:
        terms = terms_of(market, signer=STRANGER.address)
        market.wait(100)
        receipt = receipt_of(deployment, terms, started_s=market.now_s() - 90, seconds=61)
        if by == "terms":
            signature = messages.sign(deployment.domain, terms, CONSUMER.key)
            proof = accepted(
                deployment,
                terms,
                receipt,
                acceptance_by=STRANGER,
                terms_signature=signature,
            )
        else:
            proof = accepted(deployment, terms, receipt)
        mined = send(market, OPERATOR, contract.prove(proof))
        assert [type(event) for event in emitted(market, deployment, mined)] == [TaskSettled]

    async def test_a_signed_order_has_a_cheaper_verb_of_its_own(
        self, market: LocalChain, deployment: Deployment, contract: Market
    ) -> None:
        market.wait(100)
        terms = terms_of(market)
        receipt = receipt_of(deployment, terms, started_s=market.now_s() - 90, seconds=61)
        mined = send(market, STRANGER, contract.prove_order(accepted(deployment, terms, receipt)))
        assert [type(event) for event in emitted(market, deployment, mined)] == [TaskSettled]

    async def test_a_receipt_its_provider_sends_needs_no_signature(
        self, market: LocalChain, deployment: Deployment, contract: Market
    ) -> None:
        market.wait(100)
        terms = terms_of(market)
        receipt = receipt_of(deployment, terms, started_s=market.now_s() - 90, seconds=61)
        unsigned = replace(accepted(deployment, terms, receipt), receipt_signature="")
        with pytest.raises(ContractError, match="receipt should be signed"):
            send(market, STRANGER, contract.prove(unsigned))
        mined = send(market, PROVIDER, contract.prove(unsigned))
        assert [type(event) for event in emitted(market, deployment, mined)] == [TaskSettled]

    async def test_a_batch_pays_the_good_rows_and_tells_of_the_others(
        self, market: LocalChain, deployment: Deployment, contract: Market
    ) -> None:
        market.wait(100)
        started_s = market.now_s() - 90
        proofs: list[AcceptedProof] = []
        for nonce in (1, 1, 2):
            terms = terms_of(market, nonce=nonce, deadline=started_s + DAY_S)
            receipt = receipt_of(deployment, terms, started_s=started_s, seconds=61)
            proofs.append(accepted(deployment, terms, receipt))
        mined = send(market, STRANGER, contract.prove_many(proofs))
        events = emitted(market, deployment, mined)
        assert sorted(type(event).__name__ for event in events) == [
            "ProofSkipped",
            "TaskSettled",
            "TaskSettled",
        ]
        (skipped,) = [event for event in events if isinstance(event, ProofSkipped)]
        assert skipped.row == 1


class TestATaskProvenAlone:
    async def test_waits_for_the_window(
        self, market: LocalChain, deployment: Deployment, contract: Market
    ) -> None:
        terms, receipt, proven = self.prove(market, deployment, contract)
        work = ProvenWork(PROVIDER.address, proven.charge, proven.receipt)
        with pytest.raises(ContractError, match="challenge window is open") as caught:
            send(market, STRANGER, contract.finalize(terms, work))
        assert caught.value.values[0] == proven.challenge_ends_at
        market.set_time(proven.challenge_ends_at + 1)
        mined = send(market, STRANGER, contract.finalize(terms, work))
        (settled,) = emitted(market, deployment, mined)
        assert isinstance(settled, TaskSettled)
        assert settled.charge == receipt.total

    async def test_or_for_a_late_acceptance(
        self, market: LocalChain, deployment: Deployment, contract: Market
    ) -> None:
        terms, _, proven = self.prove(market, deployment, contract)
        acceptance = Acceptance(proven.task_id, proven.charge, proven.receipt)
        signature = messages.sign(deployment.domain, acceptance, CONSUMER.key)
        work = ProvenWork(PROVIDER.address, proven.charge, proven.receipt)
        mined = send(market, STRANGER, contract.finalize(terms, work, signature))
        assert [type(event) for event in emitted(market, deployment, mined)] == [TaskSettled]

    async def test_is_refused_after_the_lease(
        self, market: LocalChain, deployment: Deployment, contract: Market
    ) -> None:
        terms = terms_of(market)
        send(market, CONSUMER, contract.create_task(terms))
        now_s = market.now_s()
        receipt = receipt_of(deployment, terms, started_s=now_s, seconds=10)
        proof = leased(deployment, terms, receipt, lease_from=now_s, lease_until=now_s + 20)
        market.wait(30)
        with pytest.raises(ContractError, match="ask the consumer for an acceptance"):
            send(market, PROVIDER, contract.prove_alone(proof))

    def prove(
        self, market: LocalChain, deployment: Deployment, contract: Market
    ) -> tuple[Any, Any, TaskProven]:
        terms = terms_of(market)
        send(market, CONSUMER, contract.create_task(terms))
        lease_from = market.now_s()
        market.wait(70)
        receipt = receipt_of(deployment, terms, started_s=lease_from, seconds=61)
        proof = leased(
            deployment, terms, receipt, lease_from=lease_from, lease_until=lease_from + 100
        )
        mined = send(market, PROVIDER, contract.prove_alone(proof))
        (proven,) = emitted(market, deployment, mined)
        assert isinstance(proven, TaskProven)
        assert (proven.provider, proven.fence) == (PROVIDER.address, 1)
        assert proven.receipt == messages.digest(deployment.domain, receipt)
        assert proven.challenge_ends_at == market.now_s() + terms.challenge_window
        return terms, receipt, proven


class TestATaskNobodyProves:
    async def test_is_cancelled_and_reclaimed(
        self, market: LocalChain, deployment: Deployment, contract: Market, escrow: Escrow
    ) -> None:
        terms = terms_of(market)
        task = messages.task_id(deployment.domain, terms)
        send(market, CONSUMER, contract.create_task(terms))
        (cancelled,) = emitted(market, deployment, send(market, CONSUMER, contract.cancel(terms)))
        assert isinstance(cancelled, TaskCancelled)
        assert cancelled.end == cancelled.cancelled_at + deployment.cancel_seconds
        state = await contract.task(task)
        assert state == TaskState(TaskStatus.OPEN, cancelled.cancelled_at)
        with pytest.raises(ContractError, match="wait, or cancel"):
            send(market, STRANGER, contract.reclaim(terms))
        market.set_time(cancelled.end + 1)
        (refunded,) = emitted(market, deployment, send(market, STRANGER, contract.reclaim(terms)))
        assert refunded == TaskRefunded(task, CONSUMER.address, terms.max_charge, refunded.at)
        assert await escrow.account(CONSUMER.address) == Account(50 * TOKEN, 0)


class TestEscrow:
    async def test_money_in_and_out(
        self, market: LocalChain, deployment: Deployment, escrow: Escrow, web3: Any
    ) -> None:
        token = Token(web3, deployment.token)
        assert await token.balance_of(CONSUMER.address) == 50 * TOKEN
        (withdrawn,) = emitted(
            market, deployment, send(market, CONSUMER, escrow.withdraw(5, STRANGER.address))
        )
        assert withdrawn == Withdrawn(CONSUMER.address, STRANGER.address, 5, withdrawn.at)
        assert await token.balance_of(STRANGER.address) == 5
        with pytest.raises(ContractError, match="deposit the rest"):
            send(market, STRANGER, escrow.withdraw(1, STRANGER.address))

    async def test_deposit_with_a_permit_needs_no_approval(
        self, market: LocalChain, deployment: Deployment, escrow: Escrow, web3: Any
    ) -> None:
        token = Token(web3, deployment.token)
        deadline = market.now_s() + 600
        permit = sign_permit(
            await token.domain_separator(),
            CONSUMER.address,
            deployment.escrow,
            7,
            await token.permit_nonce(CONSUMER.address),
            deadline,
            CONSUMER.key,
        )
        mined = send(
            market,
            CONSUMER,
            escrow.deposit_with_permit(CONSUMER.address, 7, deadline, permit),
        )
        (deposited,) = emitted(market, deployment, mined)
        assert deposited == Deposited(CONSUMER.address, CONSUMER.address, 7, deposited.at)

    async def test_credit_leaves_to_the_payout_address_less_the_fee(
        self, market: LocalChain, deployment: Deployment, escrow: Escrow, contract: Market
    ) -> None:
        market.wait(100)
        terms = terms_of(market, dispatcher_bps=0)
        receipt = receipt_of(deployment, terms, started_s=market.now_s() - 90, seconds=61)
        send(market, PROVIDER, contract.prove(accepted(deployment, terms, receipt)))
        call = escrow.set_payout_address(PROVIDER.address, STRANGER.address)
        (changed,) = emitted(market, deployment, send(market, PROVIDER, call))
        assert changed == PayoutAddressSet(PROVIDER.address, STRANGER.address, changed.at)
        assert await escrow.payout_address(PROVIDER.address) == STRANGER.address
        call = escrow.withdraw_credit(PROVIDER.address)
        (paid,) = emitted(market, deployment, send(market, OPERATOR, call))
        assert isinstance(paid, CreditWithdrawn)
        assert (paid.payee, paid.to) == (PROVIDER.address, STRANGER.address)
        assert paid.paid + paid.fee == receipt.total
        with pytest.raises(ContractError, match="no credit"):
            send(market, OPERATOR, call)


class TestStaking:
    async def test_stake_gpus_and_keys(
        self, market: LocalChain, deployment: Deployment, staking: Staking
    ) -> None:
        assert (await staking.stake_of(PROVIDER.address)).bonded == 2 * STAKE_UNIT
        assert await staking.gpus_of(PROVIDER.address) == 2
        assert await staking.units_of(PROVIDER.address) == 2
        assert await staking.signs_for(OPERATOR.address, PROVIDER.address)
        assert not await staking.signs_for(STRANGER.address, PROVIDER.address)

        with pytest.raises(ContractError, match="register fewer"):
            send(market, PROVIDER, staking.request_unbond(1))
        call = staking.register_gpus(gpu_set_root(["GPU-1"]), 1)
        (registered,) = emitted(market, deployment, send(market, OPERATOR, call))
        assert isinstance(registered, GpusRegistered)
        assert (registered.gpus, registered.gpu_set) == (1, gpu_set_root(["GPU-1"]))

        call = staking.request_unbond(STAKE_UNIT)
        (unbonding,) = emitted(market, deployment, send(market, PROVIDER, call))
        assert isinstance(unbonding, UnbondRequested)
        request = await staking.unbond_request(PROVIDER.address, unbonding.request_id)
        assert (request.amount, request.withdrawable_at) == (STAKE_UNIT, unbonding.withdrawable_at)
        call = staking.withdraw_stake(unbonding.request_id, PROVIDER.address)
        with pytest.raises(ContractError, match="can be withdrawn from"):
            send(market, PROVIDER, call)
        market.set_time(unbonding.withdrawable_at + 1)
        (out,) = emitted(market, deployment, send(market, PROVIDER, call))
        assert isinstance(out, StakeWithdrawn)
        assert out.amount == STAKE_UNIT

    async def test_a_retired_key_signs_no_more_and_stays_answerable(
        self, market: LocalChain, deployment: Deployment, staking: Staking
    ) -> None:
        call = staking.retire_operator_key(OPERATOR.address)
        (retired,) = emitted(market, deployment, send(market, PROVIDER, call))
        assert isinstance(retired, OperatorKeyRetired)
        state = await staking.operator_key(OPERATOR.address)
        assert (state.provider, state.retired_at) == (PROVIDER.address, market.now_s())
        assert not await staking.signs_for(OPERATOR.address, PROVIDER.address)
        assert await staking.answers_for(PROVIDER.address, OPERATOR.address)

    async def test_a_key_is_bound_with_its_own_consent_only(
        self, market: LocalChain, deployment: Deployment, staking: Staking
    ) -> None:
        message = OperatorKey(PROVIDER.address, STRANGER.address)
        forged = messages.sign(deployment.domain, message, PROVIDER.key)
        with pytest.raises(ContractError, match="agree with its own signature"):
            send(market, PROVIDER, staking.bind_operator_key(STRANGER.address, forged))
        consent = messages.sign(deployment.domain, message, STRANGER.key)
        call = staking.bind_operator_key(STRANGER.address, consent)
        (bound,) = emitted(market, deployment, send(market, PROVIDER, call))
        assert bound == OperatorKeyBound(PROVIDER.address, STRANGER.address, bound.at)

    async def test_stake_with_a_permit(
        self, market: LocalChain, deployment: Deployment, staking: Staking, web3: Any
    ) -> None:
        fund(market, deployment, STRANGER, STAKE_UNIT)
        token = Token(web3, deployment.staking_token)
        deadline = market.now_s() + 600
        permit = sign_permit(
            await token.domain_separator(),
            STRANGER.address,
            deployment.staking,
            STAKE_UNIT,
            0,
            deadline,
            STRANGER.key,
        )
        call = staking.stake_with_permit(STAKE_UNIT, deadline, permit)
        (staked,) = emitted(market, deployment, send(market, STRANGER, call))
        assert staked == Staked(STRANGER.address, STAKE_UNIT, STAKE_UNIT, staked.at)


class TestReads:
    async def test_at_a_block_of_the_past(
        self, market: LocalChain, deployment: Deployment, escrow: Escrow
    ) -> None:
        before = market.head()
        send(market, CONSUMER, escrow.withdraw(50 * TOKEN, CONSUMER.address))
        assert (await escrow.account(CONSUMER.address)).available == 0
        past = await escrow.account(CONSUMER.address, block=before)
        assert past.available == 50 * TOKEN

    async def test_where_no_contract_is_says_so(self, web3: Any, chain: LocalChain) -> None:
        with pytest.raises(MessageError, match="is this address that contract"):
            await Escrow(web3, STRANGER.address).token()

    async def test_constructor_facts(
        self, deployment: Deployment, escrow: Escrow, contract: Market, web3: Any
    ) -> None:
        assert await escrow.treasury() == deployment.treasury
        assert await contract.cancel_seconds() == deployment.cancel_seconds
        assert await contract.min_challenge_seconds() == deployment.min_challenge_seconds
        assert await contract.max_challenge_seconds() == deployment.max_challenge_seconds
        token = Token(web3, deployment.token)
        assert (await token.decimals(), await token.symbol()) == (18, "TALLY")
        assert await token.allowance(CONSUMER.address, deployment.escrow) == 0


class TestCalldata:
    def test_values_that_do_not_fit_are_refused(self, contract: Market, escrow: Escrow) -> None:
        with pytest.raises(MessageError, match="withdraw does not take"):
            escrow.withdraw(-1, STRANGER.address)
        with pytest.raises(MessageError, match="deposit does not take"):
            escrow.deposit(to_address(STRANGER.address), 2**128)
        with pytest.raises(MessageError):
            contract.finalize(
                terms_at(1),
                ProvenWork(PROVIDER.address, 1, ZERO_DIGEST),
                Signature("0xzz"),
            )

    def test_terms_go_in_their_order(self, contract: Market) -> None:
        terms = terms_at(1)
        other = replace(terms, flat=1)
        assert contract.cancel(terms).data != contract.cancel(other).data
        assert len(contract.cancel(terms).data) == 4 + 17 * 32
