"""A channel goes round against the deployed escrow, told by its events.

deposit, fund, fund with an allowance -> redeem -> release, close -> withdraw the credit
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol import messages
from tallystick.protocol.contracts import (
    Account,
    AllowanceState,
    ChannelState,
    Escrow,
    Payee,
    SignedVoucher,
    Token,
)
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ContractError, MessageError
from tallystick.protocol.events import (
    AllowanceRevoked,
    AllowanceUsed,
    ChannelClosed,
    ChannelDeposited,
    ChannelFunded,
    ChannelReleased,
    CloseCancelled,
    CloseRequested,
    CreditWithdrawn,
    FeesShared,
    VoucherRedeemed,
)
from tallystick.protocol.messages import Channel, ChannelAllowance
from tallystick.protocol.permits import sign_authorization, sign_permit
from tests.support.anvil import (
    CONSUMER,
    DAY_S,
    OPERATOR,
    PROVIDER,
    STRANGER,
    TOKEN,
    LocalChain,
    digest_of_word,
    emitted,
    give_ether,
    person,
    send,
)

SESSION = person("session key")
CHANNEL = Channel(CONSUMER.address, SESSION.address, PROVIDER.address, 2**96 - 1)
ID = messages.channel_id(CHANNEL)
RECEIPT = digest_of_word(5)
FAR = 2**40


@pytest.fixture
def escrow(deployment: Deployment, web3: Any) -> Escrow:
    return Escrow(web3, deployment.escrow)


@pytest.fixture
def funded(market: LocalChain, escrow: Escrow) -> Channel:
    send(market, CONSUMER, escrow.fund(CHANNEL, 10 * TOKEN))
    return CHANNEL


def signed(deployment: Deployment, total: int, channel: Channel = CHANNEL) -> SignedVoucher:
    voucher = channel.voucher(total, RECEIPT)
    return SignedVoucher(voucher, messages.sign(deployment.domain, voucher, SESSION.key))


class TestMoneyIn:
    async def test_out_of_available(
        self, market: LocalChain, deployment: Deployment, escrow: Escrow
    ) -> None:
        mined = send(market, CONSUMER, escrow.fund(CHANNEL, 3))
        (event,) = emitted(market, deployment, mined)
        parties = (CONSUMER.address, PROVIDER.address, SESSION.address)
        assert event == ChannelFunded(ID, *parties, 2**96 - 1, 3, 3, event.at)
        assert await escrow.channel(CHANNEL) == ChannelState(3, 0, 0)
        assert await escrow.account(CONSUMER.address) == Account(50 * TOKEN - 3, 0)
        with pytest.raises(ContractError, match="channel's payer"):
            send(market, STRANGER, escrow.fund(CHANNEL, 3))

    async def test_out_of_the_wallet_by_all_three_ways(
        self, market: LocalChain, deployment: Deployment, escrow: Escrow, web3: Any
    ) -> None:
        token = Token(web3, deployment.token)
        separator = await token.domain_separator()
        send(market, CONSUMER, token.approve(escrow.address, 1))
        mined = send(market, CONSUMER, escrow.deposit_to_channel(CHANNEL, 1))
        (event,) = emitted(market, deployment, mined)
        parties = (CONSUMER.address, PROVIDER.address, SESSION.address)
        source = CONSUMER.address
        assert event == ChannelDeposited(ID, *parties, 2**96 - 1, source, 1, 1, event.at)

        nonce = await token.permit_nonce(CONSUMER.address)
        permit = sign_permit(
            separator, CONSUMER.address, escrow.address, 2, nonce, FAR, CONSUMER.key
        )
        send(market, CONSUMER, escrow.deposit_to_channel_with_permit(CHANNEL, 2, FAR, permit))

        salt = digest_of_word(9)
        use = await escrow.channel_authorization_nonce(CHANNEL, salt)
        paid = sign_authorization(
            separator, CONSUMER.address, escrow.address, 4, 0, FAR, use, CONSUMER.key
        )
        call = escrow.deposit_to_channel_with_authorization(
            CONSUMER.address, CHANNEL, 4, 0, FAR, salt, paid
        )
        send(market, STRANGER, call)
        assert await escrow.channel(CHANNEL) == ChannelState(7, 0, 0)

        use = await escrow.authorization_nonce(STRANGER.address, salt)
        paid = sign_authorization(
            separator, CONSUMER.address, escrow.address, 5, 0, FAR, use, CONSUMER.key
        )
        arguments = (CONSUMER.address, STRANGER.address, 5, 0, FAR, salt, paid)
        send(market, PROVIDER, escrow.deposit_with_authorization(*arguments))
        assert await escrow.account(STRANGER.address) == Account(5, 0)

    async def test_by_a_session_key_until_it_is_revoked(
        self, market: LocalChain, deployment: Deployment, escrow: Escrow
    ) -> None:
        allowance = ChannelAllowance(
            payer=CONSUMER.address,
            signer=SESSION.address,
            cap=10,
            expires_at=market.now_s() + DAY_S,
            purpose=digest_of_word(77),
            nonce=3,
        )
        give_ether(market, SESSION.address)
        digest = messages.digest(deployment.domain, allowance)
        signature = messages.sign(deployment.domain, allowance, CONSUMER.key)
        call = escrow.fund_with_allowance(allowance, signature, PROVIDER.address, CHANNEL.salt, 6)
        funded, used = emitted(market, deployment, send(market, SESSION, call))
        assert isinstance(funded, ChannelFunded)
        assert used == AllowanceUsed(
            digest, CONSUMER.address, digest_of_word(77), ID, 6, 6, used.at
        )
        with pytest.raises(ContractError, match="for 10 in all, and this makes it 12"):
            send(market, SESSION, call)
        assert await escrow.allowance(CONSUMER.address, digest) == AllowanceState(6, False)
        mined = send(market, CONSUMER, escrow.revoke_allowance(digest))
        (revoked,) = emitted(market, deployment, mined)
        assert revoked == AllowanceRevoked(digest, CONSUMER.address, revoked.at)
        assert await escrow.allowance(CONSUMER.address, digest) == AllowanceState(6, True)
        smaller = escrow.fund_with_allowance(
            allowance, signature, PROVIDER.address, CHANNEL.salt, 1
        )
        with pytest.raises(ContractError, match="revoked"):
            send(market, SESSION, smaller)


@pytest.mark.usefixtures("funded")
class TestMoneyOut:
    async def test_a_voucher_becomes_credit_and_the_rest_waits(
        self, market: LocalChain, deployment: Deployment, escrow: Escrow
    ) -> None:
        vouchers = [signed(deployment, total * TOKEN) for total in (4, 4, 25)]
        told = await escrow.redeemable(PROVIDER.address, vouchers)
        assert told == (4 * TOKEN, 0, 6 * TOKEN)
        mined = send(market, STRANGER, escrow.redeem(PROVIDER.address, vouchers))
        first, second = emitted(market, deployment, mined)
        parties = (CONSUMER.address, PROVIDER.address)
        claimed = 4 * TOKEN
        assert first == VoucherRedeemed(ID, *parties, claimed, claimed, RECEIPT, first.at)
        assert isinstance(second, VoucherRedeemed)
        assert (second.amount, second.claimed) == (6 * TOKEN, 10 * TOKEN)
        assert await escrow.payee(PROVIDER.address) == Payee(10 * TOKEN, 0)
        state = await escrow.channel(CHANNEL)
        assert (state.unclaimed, state.due(25 * TOKEN)) == (0, 0)
        assert replace(state, deposited=30 * TOKEN).due(25 * TOKEN) == 15 * TOKEN

    async def test_to_the_wallet_in_one_transaction_and_the_fees_shared(
        self, market: LocalChain, deployment: Deployment, escrow: Escrow
    ) -> None:
        call = escrow.withdraw_credit(PROVIDER.address, [signed(deployment, 1_000)])
        _, paid = emitted(market, deployment, send(market, STRANGER, call))
        assert isinstance(paid, CreditWithdrawn)
        assert (paid.paid, paid.fee) == (990, 10)
        mined = send(market, STRANGER, escrow.share_fees(PROVIDER.address))
        (shared,) = emitted(market, deployment, mined)
        assert shared == FeesShared(PROVIDER.address, 0, 10, shared.at)

    async def test_released_by_the_operator_key(
        self, market: LocalChain, deployment: Deployment, escrow: Escrow
    ) -> None:
        mined = send(market, OPERATOR, escrow.release(CHANNEL, 3 * TOKEN))
        (event,) = emitted(market, deployment, mined)
        parties = (CONSUMER.address, PROVIDER.address)
        assert event == ChannelReleased(ID, *parties, 3 * TOKEN, 7 * TOKEN, event.at)
        with pytest.raises(ContractError, match="unclaimed in the channel"):
            send(market, PROVIDER, escrow.release(CHANNEL, 8 * TOKEN))

    async def test_closed_after_the_period(
        self, market: LocalChain, deployment: Deployment, escrow: Escrow
    ) -> None:
        parties = (CONSUMER.address, PROVIDER.address)
        with pytest.raises(ContractError, match="no close of the channel"):
            send(market, CONSUMER, escrow.close(CHANNEL))
        mined = send(market, CONSUMER, escrow.request_close(CHANNEL))
        (asked,) = emitted(market, deployment, mined)
        close_at = market.now_s() + deployment.close_seconds
        assert asked == CloseRequested(ID, *parties, close_at, asked.at)
        mined = send(market, CONSUMER, escrow.cancel_close(CHANNEL))
        (back,) = emitted(market, deployment, mined)
        assert back == CloseCancelled(ID, *parties, back.at)

        send(market, CONSUMER, escrow.request_close(CHANNEL))
        with pytest.raises(ContractError, match="can be closed from"):
            send(market, STRANGER, escrow.close(CHANNEL))
        market.wait(deployment.close_seconds)
        (closed,) = emitted(market, deployment, send(market, STRANGER, escrow.close(CHANNEL)))
        assert closed == ChannelClosed(ID, *parties, 10 * TOKEN, 0, closed.at)
        assert await escrow.account(CONSUMER.address) == Account(50 * TOKEN, 0)


class TestFacts:
    async def test_of_the_constructor(self, deployment: Deployment, escrow: Escrow) -> None:
        assert await escrow.pool_share_bps() == deployment.pool_share_bps
        assert await escrow.close_seconds() == deployment.close_seconds
        assert await escrow.staking() == deployment.staking

    def test_vouchers_of_two_providers_make_no_batch(
        self, deployment: Deployment, escrow: Escrow
    ) -> None:
        stray = signed(deployment, 1, replace(CHANNEL, provider=STRANGER.address))
        with pytest.raises(MessageError, match="one provider at a time"):
            escrow.redeem(PROVIDER.address, [signed(deployment, 1), stray])

    @pytest.mark.parametrize("salt", [-1, 2**96])
    def test_a_salt_that_does_not_fit_is_refused(self, escrow: Escrow, salt: int) -> None:
        voucher = replace(CHANNEL, salt=salt).voucher(1, RECEIPT)
        with pytest.raises(MessageError, match="uint96"):
            escrow.redeem(PROVIDER.address, [SignedVoucher(voucher, "0x" + "00" * 65)])
