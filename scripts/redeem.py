"""Turn vouchers into pay.

    brownie run redeem main vouchers.json --network tallystick       into credit in the escrow
    brownie run redeem wallet vouchers.json --network tallystick     and on to the payout address
    brownie run redeem show vouchers.json --network tallystick       only say what each would pay

The file is a JSON list of {"voucher": {"payer", "provider", "salt", "total", "receipt"},
"signature"}, all of one provider, as an agent keeps them. Anyone may send it; the money is the
provider's. A voucher that pays nothing now (its channel is empty, an earlier one said as much) is
left out, and stays good.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from scripts.support import (
    Deployment,
    ScriptError,
    command,
    deployment,
    require_gas_money,
    shown,
    signer,
)
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.messages import Domain, Voucher, channel_id, channel_of
from tallystick.protocol.signatures import canonical
from tallystick.protocol.types import to_address
from tallystick.protocol.wire import SignedVoucherBody

Row = tuple[int, int, str, bytes, bytes]


@command
def main(file: str = "") -> None:
    market = deployment()
    provider, rows = paying(market, file)
    if not rows:
        return
    sender = signer()
    require_gas_money(sender)
    sent = market.escrow.redeem(provider, rows, {"from": sender})
    print(f"{shown(sent.return_value, market.token)} credited to {provider}")


@command
def wallet(file: str = "") -> None:
    market = deployment()
    provider, rows = paying(market, file)
    credit, _ = market.escrow.payeeOf(provider)
    if not rows and not credit:
        return
    sender = signer()
    require_gas_money(sender)
    sent = market.escrow.withdrawCredit(provider, rows, {"from": sender})
    event = sent.events["CreditWithdrawn"]
    print(
        f"{shown(event['paid'], market.token)} paid to {event['to']},"
        f" {shown(event['fee'], market.token)} protocol fee"
    )


@command
def show(file: str = "") -> None:
    paying(deployment(), file)


def paying(market: Deployment, file: str) -> tuple[str, list[Row]]:
    """The provider and the rows that pay something now; says what each pays."""
    signed = vouchers_in(file)
    providers = {body.voucher.provider.lower() for body in signed}
    if len(providers) != 1:
        raise ScriptError(
            f"{file} has vouchers of {len(providers)} providers: make a file for each"
        )
    provider = Voucher.from_body(signed[0].voucher).provider
    rows = [row_of(body) for body in signed]
    amounts = market.escrow.redeemable(provider, rows)
    for body, amount in zip(signed, amounts, strict=True):
        print(f"{channel_name(market, body)}  {shown(int(amount), market.token)}")
    found = [row for row, amount in zip(rows, amounts, strict=True) if amount]
    if not found:
        print("no voucher pays anything now: nothing new is owed, or the channels are empty")
    return provider, found


def vouchers_in(file: str) -> tuple[SignedVoucherBody, ...]:
    if not file:
        raise ScriptError("which vouchers? `brownie run redeem main vouchers.json`")
    try:
        found = TypeAdapter(tuple[SignedVoucherBody, ...]).validate_json(Path(file).read_bytes())
    except OSError as error:
        raise ScriptError(f"{file} cannot be read ({error.strerror}): name another") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ScriptError(f"{file}: {place}: {first['msg']}") from None
    if not found:
        raise ScriptError(f"{file} has no voucher in it")
    return found


def row_of(body: SignedVoucherBody) -> Row:
    try:
        raw = bytes.fromhex(canonical(body.signature)[2:])
    except ProtocolError as error:
        raise ScriptError(f"a signature in the file: {error}") from None
    voucher = body.voucher
    payer_and_salt = int(voucher.payer, 16) << 96 | voucher.salt
    vs = bytes([raw[32] | (raw[64] - 27) << 7]) + raw[33:64]
    return (payer_and_salt, voucher.total, voucher.receipt, raw[:32], vs)


def channel_name(market: Deployment, body: SignedVoucherBody) -> str:
    domain = Domain(market.chain_id, to_address(market.escrow.address))
    try:
        return channel_id(channel_of(domain, Voucher.from_body(body.voucher), body.signature))
    except ProtocolError as error:
        return f"(nobody's signature: {error})"
