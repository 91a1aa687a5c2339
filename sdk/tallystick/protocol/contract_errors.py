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
    "WrongStatus": "the task should be in status {0} and is in {1} (0 none, 1 open, 2 proven,"
    " 3 disputed)",
    "OnlyConsumer": "only the consumer {0} may do this, and {1} tried",
    "SharesTooHigh": "dispatcher and royalty may take {0} basis points together, and take {1}",
    "ShareWithoutPayee": "a share of {0} basis points names nobody to get it: name the payee, or "
    "no share",
    "ChallengeWindowOutOfRange": "the challenge window must be {0} to {1} seconds, and is {2}",
    "VerificationNeedsCourt": "verification {0} needs a court and this deployment has none: ask 0",
    "InvalidVerification": "verification {0} is no rule and share: rule 1 or 2, plus 256 times a "
    "share of at most 10000 basis points, or 0 for none",
    "NotDisputable": "the terms ask for no verification: the result cannot be disputed",
    "ChallengeWindowOver": "the challenge window was open until {0}, and it is {1}: the proof "
    "stands",
    "BondTooLarge": "the bond {1} would pass the largest amount {0}: this charge cannot be "
    "disputed",
    "CourtOver": "the court had until {0}, and it is {1}: end the dispute at the market",
    "CourtNotOver": "the court has until {0}, and it is {1}: wait",
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
    # AppRegistry
    "UnknownApp": "nothing is published under {0}: check the app id, the chain and the deployment",
    "UnknownVersion": "the app has the versions 1 to {0}, not {1}",
    "AppExists": "{0} is published already: add a version to it, or take another salt",
    "OnlyPublisher": "only the publisher {0} may do this, and {1} tried",
    "AppIsPermanent": "the app {0} was renounced: nobody can change it any more",
    "AppIsRetired": "the app retires at {0}: no price from then on, and no change since that was "
    "announced (asked for {1})",
    "NotPublishedYet": "this version has a price from {0} on, not at {1}",
    "PriceChangePending": "an announced price takes effect at {0}, and it is {1}: renounce after "
    "it",
    "DiscountOutOfRange": "a discount takes 1 to {0} basis points, not {1}",
    "DiscountTooSoon": "the discount can begin at {0} and not at {1}: choose a time to come",
    "DiscountEndsBeforeStart": "the discount begins at {0} and would end before that, at {1}",
    "DiscountTooLate": "the discount must end by {0} and would end at {1}: give unix seconds",
    "DiscountReduced": "{0} basis points off from {1} to {2} are announced: offer no less, no "
    "later and no shorter, or wait for its end",
    "URILengthOutOfRange": "the manifest's URI must have {0} to {1} bytes, and has {2}",
    "NoticeOutOfRange": "the notice must be {0} to {1} seconds, and is {2}",
    "ZeroDigest": "a digest is zero: name image and manifest by their digests",
    "DelegationTooSmall": "a delegation is {0} at least, and this leaves {1}: delegate more, or "
    "take all of it out",
    "InsufficientShares": "{0} shares are asked for and {1} are there: ask for fewer",
    "PotSpent": "slashes left next to nothing behind very many shares: delegate to another "
    "provider, or ask again when those shares have left",
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
    # DisputeCourt
    "DifferentProviders": "the receipts are of two providers, {0} and {1}: show two of one",
    "DifferentRoutes": "the receipts are of two routes, {0} and {1}: show two of one",
    "SameRoute": "both receipts are of the route {0}: show two routes that used one GPU",
    "DifferentPlaces": "the receipts have seq {0} and {1}: show two for one place, or two "
    "neighbours of a channel",
    "SameReceipt": "it is twice the receipt {0}: that is no fault",
    "WrongChannel": "the fields are the channel {0} and the receipt is of {1}: give its payer, "
    "signer and salt",
    "NotNeighbours": "the later receipt should have seq {0} and has {1}",
    "ReceiptsFollow": "the receipt {1} follows {0} as it should: that is no fault",
    "NotAnswerable": "{0} does not answer for signatures of {1}: the receipt is not signed by it, "
    "or by a key it retired too long ago",
    "ReceiptTooOld": "receipts that ended before {0} ms are void, and this one ended at {1} ms",
    "GpuNotInSet": "the GPU {1} is not proven to be in the set {0}: check its id and the proof",
    "OverlapTooShort": "the receipts must overlap by {0} ms and do by {1} ms: that is no fault",
    "SeatAlreadyTaken": "{0} has a seat already",
    "NoSeat": "{0} has no seat",
    "SeatAlreadyListed": "the seat of {0} is listed already",
    "SeatIsLeaving": "the seat of {0} is on its way out: free it first",
    "SeatNotLeaving": "the seat of {0} stays: leave it first",
    "TooSoon": "this can be done from {0} on, and it is {1}: wait",
    "SeatJailed": "{0} is jailed and gets no seat: lift the jail first",
    "TooFewSeats": "{0} seats are needed and {1} can be drawn: the proof stands",
    "UnknownDispute": "there is no dispute of the task {0}, or it is concluded",
    "WrongState": "the dispute should be in state {0} and is in {1} (0 none, 1 drawing, 2 sworn)",
    "DrawBlockAhead": "the draw follows from block {0}, and this is {1}: wait for the next",
    "DrawTooLate": "the last draw that could be heard was at {0}, and it is {1}: conclude",
    "DrawStillPossible": "checkers can be drawn until {0}, and it is {1}: draw",
    "NotDrawn": "{1} is no checker of the task {0} in this round",
    "OnlyChecker": "only the checker {0} or its operator key may do this, and {1} tried",
    "EmptyCommitment": "the commitment is zero: hash the vote with a salt",
    "AlreadyCommitted": "{0} has committed already: reveal that vote",
    "CommitOver": "votes were committed until {0}, and it is {1}",
    "CommitNotOver": "votes are committed until {0}, and it is {1}: reveal after that",
    "RevealOver": "votes were revealed until {0}, and it is {1}",
    "RevealNotOver": "votes are revealed until {0}, and it is {1}: wait, or have all revealed",
    "WrongReveal": "the vote has the commitment {1} and {0} was committed: reveal that vote with "
    "its salt",
    "NoVote": "a vote must be right, wrong, no input or no result",
    "CourtTooShort": "the market must give the court {0} seconds at least, and gives {1}",
    "CheckpointUnorderedInsertion": "the chain's clock went backwards",
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
