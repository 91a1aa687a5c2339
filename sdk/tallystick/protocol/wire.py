"""Bodies that cross the wire: HTTP between SDK and backend, NATS between backend and provider.

Amounts are integers in the token's smallest unit and travel as decimal strings. Digests, signatures
and sealed bytes are `0x` hex. Unknown fields are refused, so a misspelt one is an error and not a
silent default.

NATS subjects (request and reply, JSON bodies; `<p>` is the provider's address in lower case):

    tallystick.provider.<p>.offer       Offer        -> OfferReply       backend asks
    tallystick.provider.<p>.stop        Stop         -> Ack              backend asks
    tallystick.provider.<p>.acceptance  AcceptanceNotice -> Ack          backend tells
    tallystick.backend.<p>.announce     Announcement -> AnnouncementReply provider tells
    tallystick.backend.<p>.heartbeat    Heartbeat    -> HeartbeatReply   provider tells
    tallystick.backend.<p>.log          LogChunk     -> Ack              provider tells
    tallystick.backend.<p>.finished     Finished     -> Ack              provider tells
    tallystick.backend.<p>.failed       Failed       -> Ack              provider tells

A repeat of any of them is harmless: each names task and fence, and the receiver keeps the first.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    ValidationError,
)

from tallystick.protocol.errors import WireError

UINT128_MAX = 2**128 - 1


def _whole_number(value: object) -> int:
    """Accepts an int or a plain decimal string; never a float, never a bool, never "1e18"."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("an amount is a decimal string of the smallest unit, such as '1500'")
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit()) or len(value) > 78:
            raise ValueError("an amount is a decimal string of the smallest unit, such as '1500'")
        return int(value)
    return value


Amount = Annotated[
    int,
    BeforeValidator(_whole_number, json_schema_input_type=str),
    Field(ge=0, le=UINT128_MAX),
    PlainSerializer(str, return_type=str, when_used="json"),
]
"""uint128 in the token's smallest unit; a decimal string in JSON."""

Uint256 = Annotated[
    int,
    BeforeValidator(_whole_number, json_schema_input_type=str),
    Field(ge=0, le=2**256 - 1),
    PlainSerializer(str, return_type=str, when_used="json"),
]

Uint96 = Annotated[
    int,
    BeforeValidator(_whole_number, json_schema_input_type=str),
    Field(ge=0, le=2**96 - 1),
    PlainSerializer(str, return_type=str, when_used="json"),
]
"""A channel's salt: no amount, but beyond what JSON readers keep exact."""

Count = Annotated[int, Strict(), Field(ge=0, le=2**63 - 1)]
"""A whole number that is no amount: times, sizes, counters. Never "5", 5.0 or true."""

Uint64 = Annotated[int, Strict(), Field(ge=0, le=2**64 - 1)]
Uint32 = Annotated[int, Strict(), Field(ge=0, le=2**32 - 1)]
Bps = Annotated[int, Strict(), Field(ge=0, le=3000)]
ExitCode = Annotated[int, Strict(), Field(ge=-255, le=255)]
"""Below zero when a signal ended the process."""

AddressHex = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
DigestHex = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
SignatureHex = Annotated[str, Field(pattern=r"^0x([0-9a-fA-F]{2}){64,4096}$")]
BytesHex = Annotated[str, Field(pattern=r"^0x([0-9a-fA-F]{2})*$", max_length=4096)]
ShortText = Annotated[str, Field(max_length=200)]


class WireModel(BaseModel):
    """Frozen, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Body = TypeVar("Body", bound=WireModel)


def parse(kind: type[Body], data: bytes | str) -> Body:
    """One body out of JSON text. Refuses what JSON readers disagree about: a name given twice, NaN
    and Infinity, text behind the end. Raises `WireError` with the first field at fault."""
    try:
        content = json.loads(data, object_pairs_hook=_no_name_twice, parse_constant=_no_constant)
        return kind.model_validate(content)
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise WireError(f"{kind.__name__}: {place}: {first['msg']}") from failure
    except (ValueError, RecursionError) as failure:
        raise WireError(f"{kind.__name__}: not well-formed JSON: {failure}") from failure


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name is given twice")
    return content


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON number")


# --- signed messages -------------------------------------------------------------------------


class TaskTermsBody(WireModel):
    """`TaskTerms` as signed by the consumer (protocol: EIP-712 message of the same name)."""

    consumer: AddressHex
    signer: AddressHex
    dispatcher: AddressHex
    royalty_to: AddressHex
    spec: DigestHex
    gpus: Uint32
    flat: Amount
    fee_per_call: Amount
    rate_per_gpu_second: Amount
    dispatcher_bps: Bps
    royalty_bps: Bps
    max_charge: Amount
    max_seconds: Uint32
    deadline: Uint64
    challenge_window: Uint32
    verification: Uint32
    nonce: Uint256


class AssignmentBody(WireModel):
    task_id: DigestHex
    provider: AddressHex
    fence: Annotated[int, Strict(), Field(ge=1, le=2**64 - 1)]
    lease_from: Uint64
    lease_until: Uint64


class ReceiptBody(WireModel):
    provider: AddressHex
    route: DigestHex
    seq: Uint64
    prev: DigestHex
    request: DigestHex
    result: DigestHex
    gpu_set: DigestHex
    started_at_ms: Uint64
    ended_at_ms: Uint64
    calls: Uint64
    gpu_ms: Uint64
    usage_root: DigestHex
    total: Amount


class AcceptanceBody(WireModel):
    task_id: DigestHex
    total: Amount
    receipt: DigestHex


class ChannelBody(WireModel):
    payer: AddressHex
    signer: AddressHex
    provider: AddressHex
    salt: Uint96


class VoucherBody(WireModel):
    payer: AddressHex
    provider: AddressHex
    salt: Uint96
    total: Amount
    receipt: DigestHex


class SignedVoucherBody(WireModel):
    voucher: VoucherBody
    signature: SignatureHex


class ChannelAllowanceBody(WireModel):
    payer: AddressHex
    signer: AddressHex
    cap: Amount
    expires_at: Uint64
    purpose: DigestHex
    nonce: Uint256


# --- what a task is (its digest is TaskTerms.spec) -------------------------------------------


def disk_needed_mib(disk_mib: int, max_output_mib: int) -> int:
    """Disk that a task takes at its provider: what its container gets, and its result beside
    that. Whoever compares a task with a provider's disk asks here, so that all agree."""
    return disk_mib + max_output_mib


class Resources(WireModel):
    """What one container gets."""

    gpu_class: ShortText = ""
    """Name of a GPU class such as `gpu1`; empty when the task takes no GPU."""
    gpus: Annotated[int, Strict(), Field(ge=0, le=64)] = 0
    gpu_memory_mib: Count = 0
    cpu_milli: Annotated[int, Strict(), Field(ge=100, le=256_000)] = 1000
    memory_mib: Annotated[int, Strict(), Field(ge=64, le=4_194_304)] = 2048
    disk_mib: Annotated[int, Strict(), Field(ge=16, le=4_194_304)] = 1024


class Manifest(WireModel):
    """Everything the provider must know to run a task. Its canonical JSON (keys sorted, no spaces,
    no floats) hashed with keccak-256 is `TaskTerms.spec`: changing one character voids the
    order."""

    version: Literal[1] = 1
    name: ShortText = ""
    image: ShortText
    """`name@sha256:...`, a local image id `sha256:...`, or `process` for the development
    runtime."""
    command: Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=64)]
    env: dict[str, Annotated[str, Field(max_length=4096)]] = Field(default_factory=dict)
    input_digest: DigestHex | None = None
    """keccak-256 of the *sealed* input bundle as uploaded; None when there is no input."""
    resources: Resources = Resources()
    network: Literal["none"] = "none"
    max_output_mib: Annotated[int, Strict(), Field(ge=1, le=65_536)] = 256
    result_key: BytesHex
    """Consumer's X25519 public key (32 bytes): the result bundle is sealed to it."""

    @property
    def disk_needed_mib(self) -> int:
        return disk_needed_mib(self.resources.disk_mib, self.max_output_mib)


class SealedKey(WireModel):
    """The input's content key, sealed (HPKE) to one provider for one task and one fence."""

    provider: AddressHex
    fence: Annotated[int, Strict(), Field(ge=1)]
    sealed: BytesHex


# --- providers, GPUs and what they ask for ---------------------------------------------------


class GpuBody(WireModel):
    """One card as the provider's driver reports it. A reading the driver cannot give is None."""

    gpu_id: ShortText
    model: ShortText
    gpu_class: ShortText
    memory_mib: Count
    driver: ShortText | None = None
    simulated: bool = False
    utilization_percent: Count | None = None
    memory_used_mib: Count | None = None
    temperature_c: int | None = None
    power_mw: Count | None = None
    energy_mj: Count | None = None


class FindingBody(WireModel):
    """One thing that the provider's doctor looked at."""

    name: ShortText
    ok: bool
    found: Annotated[str, Field(max_length=500)]
    fix: Annotated[str, Field(max_length=500)] = ""
    """What to do; of a finding that is ok it is advice."""


class DoctorReport(WireModel):
    """Everything the doctor looked at, and when by the provider's clock."""

    at_ms: Count
    findings: Annotated[tuple[FindingBody, ...], Field(max_length=64)]


class Announcement(WireModel):
    """What a provider offers now; sent on connect and whenever it changes."""

    provider: AddressHex
    operator_key: AddressHex
    hpke_key: BytesHex
    """X25519 public key that input keys are sealed to."""
    hpke_signature: SignatureHex
    """The provider's or its operator key's, over `hpke_key`: see `protocol.sealing_key`."""
    runtime: Literal["docker", "process"]
    agent_version: ShortText
    gpus: Annotated[tuple[GpuBody, ...], Field(max_length=256)]
    rate_per_gpu_second: dict[str, Amount]
    """Floor price by GPU class, smallest unit per GPU-second; `""` is the CPU-only class."""
    cpu_milli: Count
    memory_mib: Count
    disk_mib: Count
    draining: bool = False
    images: tuple[ShortText, ...] = ()
    """Images present already, so that a task starts without a pull."""
    doctor: DoctorReport | None = None
    """For the provider's own eyes; none of an agent that has not looked yet."""


class AnnouncementReply(WireModel):
    lease_seconds: Count
    heartbeat_seconds: float
    problem: str | None = None
    """Why this provider will get no work (stake too low, unknown key), in words; None when it
    will."""


# --- leases ----------------------------------------------------------------------------------


class Offer(WireModel):
    """A lease, offered: terms, what to run, and the dispatcher's signed assignment."""

    terms: TaskTermsBody
    terms_signature: SignatureHex | None
    secured: bool
    """True when the ceiling is locked on chain; False for a signed order that is not created
    yet."""
    manifest: Manifest
    assignment: AssignmentBody
    assignment_signature: SignatureHex
    sealed_key: BytesHex | None
    input_url: str | None
    """Absolute URL with a short-lived capability; answers the sealed bundle of `input_digest`."""
    result_url: str
    """Absolute URL for `PUT` of the sealed result bundle; `{digest}` stands for its keccak-256."""


class OfferReply(WireModel):
    accepted: bool
    reason: ShortText = ""


class LeaseBeat(WireModel):
    task_id: DigestHex
    fence: Count
    stage: Literal["fetching", "starting", "running", "uploading", "finished", "settling"]
    percent: Annotated[int, Strict(), Field(ge=0, le=100)] | None = None
    eta_seconds: Count | None = None
    message: ShortText = ""
    gpu_ms: Count = 0
    energy_mj: Count | None = None
    gpu_ids: Annotated[tuple[ShortText, ...], Field(max_length=256)] = ()
    """The cards it runs on; `Heartbeat.gpus` has their readings."""


class Heartbeat(WireModel):
    leases: Annotated[tuple[LeaseBeat, ...], Field(max_length=256)]
    gpus: Annotated[tuple[GpuBody, ...], Field(max_length=256)] = ()


class LeaseAnswer(WireModel):
    """`renewed` carries a later assignment on the same fence; `lost` and `stop` carry none."""

    task_id: DigestHex
    fence: Count
    verdict: Literal["renewed", "lost", "stop"]
    assignment: AssignmentBody | None = None
    assignment_signature: SignatureHex | None = None
    acceptance: AcceptanceBody | None = None
    acceptance_signature: SignatureHex | None = None


class HeartbeatReply(WireModel):
    leases: tuple[LeaseAnswer, ...]


class Stop(WireModel):
    task_id: DigestHex
    fence: Count
    reason: ShortText


class AcceptanceNotice(WireModel):
    acceptance: AcceptanceBody
    signature: SignatureHex


class LogChunk(WireModel):
    task_id: DigestHex
    fence: Count
    seq: Count
    """Counts chunks of this fence from 0."""
    stream: Literal["stdout", "stderr", "system"]
    at_ms: Count
    text: Annotated[str, Field(max_length=65_536)]


class Finished(WireModel):
    """The container ended; the sealed result lies under `result_digest`."""

    task_id: DigestHex
    fence: Count
    exit_code: ExitCode
    receipt: ReceiptBody
    receipt_signature: SignatureHex
    result_digest: DigestHex
    """keccak-256 of the sealed result bundle as uploaded."""
    result_bytes: Count
    energy_mj: Count | None = None
    peak_gpu_memory_mib: Count | None = None
    simulated: bool = False
    runtime: Literal["docker", "process"] = "docker"


class Failed(WireModel):
    """The provider could not do it; `blame` says whose fault, so nobody pays for another's."""

    task_id: DigestHex
    fence: Count
    reason: ShortText
    blame: Literal["task", "provider"]


class Ack(WireModel):
    ok: bool = True
    reason: str = ""


# --- HTTP: SDK and dApp <-> backend ----------------------------------------------------------


class DeploymentBody(WireModel):
    """What a stranger needs to check everything for itself."""

    chain_id: Count
    token: AddressHex
    token_symbol: str
    token_decimals: Count
    escrow: AddressHex
    market: AddressHex
    staking: AddressHex
    dispatcher: AddressHex
    dispatcher_bps: Count
    stake_unit: Amount
    challenge_window_seconds: Count


class CreateTask(WireModel):
    """A signed order. With `secured` the backend waits for `TaskCreated` before it dispatches."""

    terms: TaskTermsBody
    signature: SignatureHex
    manifest: Manifest
    sealed_keys: Annotated[tuple[SealedKey, ...], Field(max_length=4096)] = ()
    secured: bool = True


class Progress(WireModel):
    state: str
    stage: str
    percent: Count | None = None
    eta_seconds: Count | None = None
    message: str = ""
    updated_at_ms: Count


class LeaseBody(WireModel):
    fence: Count
    provider: AddressHex
    state: str
    lease_from: Count
    lease_until: Count
    simulated: bool = False
    runtime: str = ""


class SealedKeyRequest(WireModel):
    """The chosen provider has no sealed key for this fence; the consumer's SDK supplies one."""

    provider: AddressHex
    hpke_key: BytesHex
    hpke_signature: SignatureHex
    fence: Count


class TaskBody(WireModel):
    id: DigestHex
    name: str
    state: str
    consumer: AddressHex
    terms: TaskTermsBody
    manifest: Manifest
    secured: bool
    created_at_ms: Count
    progress: Progress
    lease: LeaseBody | None = None
    attempts: Count = 0
    failure: str | None = None
    charge: Amount | None = None
    receipt_digest: DigestHex | None = None
    created_tx: DigestHex | None = None
    proven_tx: DigestHex | None = None
    settled_tx: DigestHex | None = None
    needs_key: SealedKeyRequest | None = None


class TaskPage(WireModel):
    items: tuple[TaskBody, ...]
    next_cursor: str | None = None


class ReceiptView(WireModel):
    receipt: ReceiptBody
    signature: SignatureHex
    digest: DigestHex
    fence: Count
    exit_code: ExitCode
    result_digest: DigestHex
    result_bytes: Count
    energy_mj: Count | None
    simulated: bool
    runtime: str
    accepted: bool


class AcceptTask(WireModel):
    acceptance: AcceptanceBody
    signature: SignatureHex


class LogLine(WireModel):
    id: Count
    fence: Count
    stream: str
    at_ms: Count
    text: str


class LogPage(WireModel):
    items: tuple[LogLine, ...]
    next_cursor: str | None = None


class TaskEventBody(WireModel):
    """One step of a task, as sent over SSE; `id` resumes with `Last-Event-ID`."""

    id: Count
    task_id: DigestHex
    at_ms: Count
    kind: str
    data: dict[str, Any]


class OfferBody(WireModel):
    """A provider as the matcher sees it for a given request, with the reason when it is passed
    over."""

    provider: AddressHex
    hpke_key: BytesHex
    hpke_signature: SignatureHex
    """Shows that the key is the provider's; check it before sealing to it."""
    runtime: str
    simulated: bool
    gpu_class: str
    gpus_free: Count
    gpus_total: Count
    gpu_memory_mib: Count
    rate_per_gpu_second: Amount
    eligible: bool
    reason: str = ""
    """Code of the first constraint that failed, such as `price_above_ceiling`; empty when
    eligible."""
    detail: str = ""
    """A sentence with the values, and the cheapest change that would pass."""


class ExplainBody(WireModel):
    task_id: DigestHex
    state: str
    summary: str
    offers: tuple[OfferBody, ...]


class ProviderBody(WireModel):
    address: AddressHex
    online: bool
    last_seen_ms: Count | None
    stake: Amount
    unbonding: Amount
    gpus_registered: Count
    operator_keys: tuple[AddressHex, ...]
    runtime: str | None
    agent_version: str | None
    draining: bool
    simulated: bool
    hpke_key: BytesHex | None
    hpke_signature: SignatureHex | None
    """There whenever `hpke_key` is."""
    rate_per_gpu_second: dict[str, Amount]
    gpus: tuple[GpuBody, ...]
    tasks_settled: Count


class ProviderPage(WireModel):
    items: tuple[ProviderBody, ...]
    next_cursor: str | None = None


class GpuListing(WireModel):
    provider: AddressHex
    gpu: GpuBody
    rate_per_gpu_second: Amount
    busy: bool
    online: bool


class GpuPage(WireModel):
    items: tuple[GpuListing, ...]
    next_cursor: str | None = None


class AccountBody(WireModel):
    address: AddressHex
    available: Amount
    locked: Amount
    credit: Amount
    block: Count


class SiweNonce(WireModel):
    nonce: str
    expires_at_ms: Count


class SiweLogin(WireModel):
    message: Annotated[str, Field(max_length=4096)]
    signature: SignatureHex


class SessionBody(WireModel):
    token: str
    address: AddressHex
    expires_at_ms: Count


class CreateApiKey(WireModel):
    name: ShortText
    scopes: tuple[Literal["tasks:read", "tasks:write", "calls"], ...] = ("tasks:read",)


class ApiKeyBody(WireModel):
    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at_ms: Count
    last_used_at_ms: Count | None
    secret: str | None = None
    """Only in the answer that creates it."""


class BlobBody(WireModel):
    digest: DigestHex
    bytes: Count


class HealthBody(WireModel):
    status: Literal["ok", "degraded"]
    checks: dict[str, str]
    chain_head: Count | None = None
    indexed_block: Count | None = None


class Problem(BaseModel):
    """RFC 9457 problem details; `next_step` says what to do, `errors` lists bad fields."""

    type: str
    title: str
    status: Count
    detail: str
    instance: str = ""
    code: str
    next_step: str = ""
    errors: list[dict[str, Any]] = Field(default_factory=list)


# --- apps and channels, as the index knows them ------------------------------------------------


DiscountBps = Annotated[int, Strict(), Field(ge=0, le=10_000)]


class AppPriceBody(WireModel):
    """What one call costs: `flat + fee_per_call * calls + rate_per_gpu_second * gpu_ms / 1000`, the
    last rounded up."""

    flat: Amount
    fee_per_call: Amount
    rate_per_gpu_second: Amount


class AppVersionBody(WireModel):
    """Never changes. `manifest_uri` is the publisher's text: the digest says whether what is found
    there is the manifest."""

    version: Uint32
    image_digest: DigestHex
    manifest_digest: DigestHex
    manifest_uri: str
    published_at: Count


class AppVersionPage(WireModel):
    items: tuple[AppVersionBody, ...]
    next_cursor: str | None = None


class AppBody(WireModel):
    """An app, its latest version and what that costs now."""

    id: DigestHex
    publisher: AddressHex
    salt: DigestHex
    royalty_to: AddressHex
    royalty_bps: Bps
    published_at: Count
    versions: Uint32
    latest: AppVersionBody
    price: AppPriceBody | None
    """After the discount; none once the app is retired."""
    discount_bps: DiscountBps
    retired_at: Uint64 | None
    """First second without a price; may lie ahead."""
    permanent: bool
    """Nobody can change or stop it."""


class AppPage(WireModel):
    items: tuple[AppBody, ...]
    next_cursor: str | None = None


class QuoteBody(WireModel):
    """What `AppRegistry.priceAt` answers, and how it came about."""

    app_id: DigestHex
    version: Uint32
    at: Uint64
    price: AppPriceBody
    list_price: AppPriceBody
    """Before the discount."""
    discount_bps: DiscountBps


class PricePointBody(WireModel):
    """Holds from `takes_effect_at` until the version's next."""

    version: Uint32
    takes_effect_at: Uint64
    price: AppPriceBody


class PricePage(WireModel):
    items: tuple[PricePointBody, ...]
    next_cursor: str | None = None


class DiscountBody(WireModel):
    """From `start` to `end`, both included. From its start on it takes the place of those announced
    before it."""

    bps: DiscountBps
    start: Uint64
    end: Uint64
    announced_at: Count


class DiscountPage(WireModel):
    items: tuple[DiscountBody, ...]
    next_cursor: str | None = None


class ChannelView(WireModel):
    """A channel as the chain has it at `block`. Of vouchers that were not redeemed it knows
    nothing."""

    id: DigestHex
    channel: ChannelBody
    state: Literal["open", "closing", "empty"]
    """`closing`: a close was requested; else `empty`: nothing is left to claim."""
    deposited: Amount
    claimed: Amount
    close_at: Uint64 | None
    """From when on anyone may close it."""
    receipt: DigestHex | None
    """The last receipt that a redeemed voucher countersigned."""
    opened_at: Count
    redeemed_at: Count | None
    block: Count


class ChannelPage(WireModel):
    items: tuple[ChannelView, ...]
    next_cursor: str | None = None
