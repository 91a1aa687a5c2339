"""Why a contract refused, in a sentence that says what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from tallystick.protocol import codec
from tallystick.protocol.errors import ContractError

__all__ = ["SENTENCES", "decode_error"]

_ERROR: Final = bytes.fromhex("08c379a0")  # Error(string)
_PANIC: Final = bytes.fromhex("4e487b71")  # Panic(uint256)

SENTENCES: Final[Mapping[str, str]] = {
    # ComputeEscrow
    "OnlyMarket": "only the market {0} may do this, and {1} tried",
    "InsufficientAvailable": "the escrow account needs {0} available and has {1}: deposit the rest",
    "InsufficientLocked": "{0} should be locked in the escrow account and {1} are",
    "DepositNotExact": "the deposit should have moved {0} and moved {1}: tokens that take a fee or "
    "change balances are refused",
    "InvalidRecipient": "{0} cannot receive this: name another account",
    "OnlyPayoutAddress": "only the present payout address {0} may do this, and {1} tried",
    "NoCredit": "{0} has no credit to withdraw: it comes when a task settles or a "
    "voucher is redeemed",
    "NoFees": "{0} has no fees to share: they come when credit is withdrawn",
    "ZeroAmount": "the amount is zero: give a larger one",
    "ZeroAddress": "an address is zero: name an account",
    "AmountTooLarge": "amounts of this token would pass 2^128: it cannot be used here",
    "SharesAboveCharge": "the shares {1} are more than the charge {0}",
    "PoolShareTooHigh": "the pools' part of the fees may be {0} basis points at most, and is {1}",
    "ClosePeriodOutOfRange": "the close period must be {0} to {1} seconds, and is {2}",
    "ChannelWithoutSigner": "the channel names no signer: nobody could claim from it",
    "OnlyPayer": "only the channel's payer {0} may do this, and {1} tried",
    "OnlySigner": "only the allowance's signer {0} may do this, and {1} tried",
    "InsufficientUnclaimed": "{0} should be unclaimed in the channel and {1} is: ask for less",
    "NothingUnclaimed": "the channel {0} holds nothing that is not claimed",
    "CloseAlreadyRequested": "the channel can be closed from {0} on: wait, or take it back",
    "CloseNotRequested": "no close of the channel {0} is requested: the payer asks for it first",
    "ClosePeriodNotOver": "the channel can be closed from {0} on, and it is {1}",
    "InvalidAllowanceSignature": "the allowance should be signed by {0}, the signature is of {1}: "
    "sign it for this chain and deployment",
    "AllowanceExpired": "the allowance was good until {0}, and it is {1}: ask for another",
    "AllowanceExceeded": "the allowance is for {0} in all, and this makes it {1}: ask for another",
    "AllowanceWasRevoked": "the payer revoked the allowance {0}: ask for another",
    "NoPool": "{0} has no staking pool",
    "ProtocolFeeTooHigh": "the protocol fee may be {0} basis points at most, and is {1}",
    "ReentrancyGuardReentrantCall": "the contract was called again from inside its own call",
    "SafeERC20FailedOperation": "the token {0} refused the transfer: check balance and allowance",
    # TaskMarket
    "FieldTooWide": "a field of the message is wider than its type: encode it again",
    "InvalidTermsSignature": "the terms should be signed by {0}, the signature is of {1}: sign "
    "them for this chain and deployment",
    "InvalidAcceptanceSignature": "the acceptance should be signed by {0}, the signature is of "
    "{1}: sign charge and receipt as the market computes them",
    "InvalidReceiptSignature": "the receipt should be signed by {0} or its operator key, the "
    "signature is of {1}: check fence, charge and key",
    "InvalidAssignmentSignature": "the assignment should be signed by the dispatcher {0}, the "
    "signature is of {1}: check provider, fence and lease",
    "NonceAlreadyUsed": "{0} has used the nonce {1}: the task exists, is settled or was "
    "refunded; a new one needs another nonce",
    "WrongStatus": "the task should be in status {0} and is in {1} (0 none, 1 open, 2 proven)",
    "OnlyConsumer": "only the consumer {0} may do this, and {1} tried",
    "SharesTooHigh": "dispatcher and royalty may take {0} basis points together, and take {1}",
    "ShareWithoutPayee": "a share of {0} basis points names nobody to get it: name the payee, or "
    "no share",
    "ChallengeWindowOutOfRange": "the challenge window must be {0} to {1} seconds, and is {2}",
    "VerificationNeedsCourt": "verification {0} needs a court and this deployment has none: ask 0",
    "DeadlinePassed": "proofs were taken until {0}, and it is {1}: the ceiling can be reclaimed",
    "NotEndedYet": "the task runs until {0}, and it is {1}: wait, or cancel it",
    "AlreadyCancelled": "the task was cancelled at {0}",
    "EndedBeforeStart": "the receipt starts at {0} ms and ends before that, at {1} ms",
    "EndedInFuture": "the receipt ends at {1} ms and the chain's time is {0} ms: wait for the next "
    "block, and check the clock",
    "RanTooLong": "the terms allow {0} ms and the receipt shows {1} ms",
    "TooMuchGpuTime": "the run can have used {0} GPU-ms and the receipt shows {1}",
    "GpuSetMissing": "{0} GPUs are named without the root of their ids",
    "TooManyCalls": "a task proven without acceptance counts {0} calls at most, the receipt {1}",
    "StartedBeforeLease": "the lease begins at {0} ms and the run began before that, at {1} ms",
    "LeaseOver": "the lease was good until {0}, and it is {1}: ask the consumer for an acceptance",
    "LeaseAfterCancel": "the task was cancelled at {0}, before the lease began at {1}",
    "StakeTooLow": "the provider needs {0} of own bonded stake and has {1}: stake more, or use "
    "fewer GPUs",
    "ChallengeWindowOpen": "the challenge window is open until {0}, and it is {1}: wait, or "
    "bring the consumer's acceptance",
    "WrongProof": "the proof on chain has the digest {0}, the one shown has {1}: show what "
    "TaskProven told",
    "NotEnoughGas": "{0} gas must be left at this step and {1} is: send with a higher gas limit",
    "WrongNeighbour": "the neighbour contract should be {0} and is {1}: deploy again",
    "UnbondingTooShort": "unbonding must take {0} seconds at least, and takes {1}",
    "WindowsOutOfOrder": "the shortest challenge window {0} is longer than the longest {1}",
    # ProviderStaking
    "InsufficientBonded": "{0} should be bonded and {1} is: ask for less",
    "StakeBacksGpus": "the registered GPUs and the seats need {0} of stake and {1} would be left: "
    "register fewer GPUs first, or leave seats",
    "UnknownRequest": "{0} has no unbonding request {1}, or it was withdrawn",
    "UnbondingNotOver": "the stake can be withdrawn from {0} on, and it is {1}",
    "KeyAlreadyBound": "the key {0} is bound to {1} for ever: make another key",
    "KeyNotBound": "the key {0} is bound to nobody",
    "KeyAlreadyRetired": "the key {0} was retired at {1}",
    "KeyIsProvider": "{0} is a provider itself: bind a key that is nothing else",
    "OnlyProvider": "only the provider {0} may do this, and {1} tried",
    "InvalidKeySignature": "the key {0} must agree with its own signature, and this one is of {1}",
    "DelegationTooSmall": "a delegation is {0} at least, and this leaves {1}: delegate more, or "
    "take all of it out",
    "InsufficientShares": "{0} shares are asked for and {1} are there: ask for fewer",
    "SharesBelowMinimum": "at least {0} shares were asked for and {1} come of it: the pool was "
    "slashed meanwhile, look at it again",
    "AmountBelowMinimum": "at least {0} was asked for and {1} comes of it: the pool was slashed "
    "meanwhile, look at it again",
    "CommissionTooHigh": "the commission may be {0} basis points at most, and is {1}",
    "NoPool": "nobody has delegated to {0}",
    "NothingToWithdraw": "there is nothing for {0} to withdraw",
    "AlreadyPunished": "the offence {0} was punished already",
    "ProviderJailed": "{0} is jailed and can lift that from {1} on",
    "NotJailed": "{0} is not jailed",
    "JailNotOver": "the jail can be lifted from {0} on, and it is {1}",
    "OnlyCourt": "only the court {0} may do this, and {1} tried",
    "OnlyEscrow": "only the escrow {0} may do this, and {1} tried",
    # TallyToken
    "ERC20InsufficientAllowance": "{0} may spend {1} of the tokens and needs {2}: approve it first",
    "ERC20InsufficientBalance": "{0} has {1} tokens and needs {2}: get the rest first",
    "ERC20InvalidApprover": "{0} cannot approve",
    "ERC20InvalidReceiver": "{0} cannot receive tokens",
    "ERC20InvalidSender": "{0} cannot send tokens",
    "ERC20InvalidSpender": "{0} cannot spend tokens",
    "ERC2612ExpiredSignature": "the permit was good until {0}: sign another",
    "ERC2612InvalidSigner": "the permit should be signed by {1}, the signature is of {0}",
    "ERC3009InvalidAuthorizationTime": "the authorization is good from {0} to {1}: wait, or sign "
    "another",
    "ERC3009InvalidSignature": "the authorization is not signed by the account it takes from",
    "ERC3009UsedAuthorization": "the authorization of {0} with nonce {1} was used or withdrawn",
    "InvalidAccountNonce": "the permit of {0} needs the nonce {1}: sign another",
    "ECDSAInvalidSignature": "the signature belongs to no key",
    "ECDSAInvalidSignatureLength": "the signature has {0} bytes and should have 65",
    "ECDSAInvalidSignatureS": "the signature's s {0} is in the upper half: sign with low s",
    "InvalidShortString": "a text stored in the token is malformed",
    "StringTooLong": "the text {0} is too long",
    "SafeCastOverflowedUintDowncast": "{1} does not fit {0} bits",
    "SupplyTooLarge": "the supply may be {0} at most, and is {1}",
    "ZeroSupply": "the supply is zero",
}

_PANICS: Final[Mapping[int, str]] = {
    0x01: "an assertion failed",
    0x11: "an amount went below zero or beyond its largest value",
    0x12: "a division by zero",
    0x21: "a value outside its enumeration",
    0x32: "an index outside its array",
}


def decode_error(data: bytes | str) -> ContractError:
    """Always an answer: an error of ours, a plain reason, a panic, or what little is known."""
    raw = bytes.fromhex(data.removeprefix("0x")) if isinstance(data, str) else data
    if not raw:
        return ContractError(
            "",
            (),
            "the contract refused without a reason: is that contract at this address?",
        )
    known = codec.decode_error_values(raw)
    if known is not None:
        name, values = known
        sentence = SENTENCES.get(name)
        if sentence is None:
            return ContractError(name, values, f"the contract refused with {name}{values}")
        return ContractError(name, values, sentence.format(*values))
    return _of_the_language(raw) or ContractError(
        raw[:4].hex(), (), f"the contract refused with an unknown error 0x{raw[:68].hex()}"
    )


def _of_the_language(raw: bytes) -> ContractError | None:
    kind = {_ERROR: "string", _PANIC: "uint256"}.get(raw[:4])
    if kind is None:
        return None
    try:
        value: Any = decode([kind], raw[4:])[0]
    except DecodingError:
        return None
    if kind == "string":
        return ContractError("Error", (value,), f"the contract refused: {value}")
    reason = _PANICS.get(value, "an internal check failed")
    return ContractError("Panic", (value,), f"the contract stopped: {reason} (panic 0x{value:02x})")
