"""Settings of the backend, read once from the environment.

Every field is a variable `TALLYSTICK_BACKEND_<FIELD IN CAPITALS>`; the defaults serve a local
market. A variable with our prefix that is no setting is an error, so that a misspelt one is seen.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from limits import parse as parse_limit
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from tallystick_backend.errors import BackendError

PREFIX = "TALLYSTICK_BACKEND_"
MIB = 1024 * 1024


class SettingsError(BackendError):
    """A setting is missing or cannot be used; the message names the variable."""


def _listed(value: object) -> object:
    """`a, b` -> ("a", "b"); a sequence passes as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


class Settings(BaseModel):
    """One backend: HTTP, index, dispatch and gateway in one process."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    database_url: str = "sqlite+aiosqlite:///tallystick.db"
    """SQLAlchemy URL: `sqlite+aiosqlite:///file.db` or `postgresql+asyncpg://user@server/name`."""
    rpc_url: str = "http://127.0.0.1:8545"
    """JSON-RPC of the node that is followed; its answers decide what is paid."""
    deployment: str = ""
    """Path of the deployment's JSON, or a chain id known to `tallystick.protocol`."""
    nats_url: str = "nats://127.0.0.1:4222"
    """Message bus between backend and providers."""
    provider_nats_url: str = ""
    """Where providers reach the message bus, for those who join; empty names none."""
    nats_issuer_seed: SecretStr | None = None
    """Seed (nkey, `SA...`) of the account that signs what each provider may do on the bus."""
    dispatcher_key_file: Path | None = None
    """File (mode 0600) with the dispatcher's private key in hex: it signs assignments."""
    dispatcher_key: SecretStr | None = None
    """The key itself, for development; `dispatcher_key_file` goes first."""
    dispatcher_bps: Annotated[int, Field(ge=0, le=3000)] = 500
    """Our share of each charge in basis points; orders that name another are refused."""
    challenge_window_seconds: Annotated[int, Field(ge=0, lt=2**32)] = 86_400
    """Challenge window we propose to consumers; the contract sets its limits."""
    lease_seconds: Annotated[int, Field(ge=2, le=3600)] = 30
    """How long a provider may go unheard before its task is given to another."""
    lease_margin_seconds: Annotated[int, Field(ge=0, le=600)] = 2
    """Added to the end of a lease before a higher fence is given: clocks differ."""
    orphan_grace_seconds: Annotated[int, Field(ge=0, le=3600)] = 30
    """How long running work goes on after a reorganisation took its task's creation away."""
    blob_dir: Path = Path("blobs")
    """Directory of the sealed bundles."""
    public_url: str = "http://127.0.0.1:8000"
    """Address under which consumers and providers reach us; log-in messages are bound to it."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """Port to listen on; 0 takes a free one."""
    confirmations: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Blocks that must follow a block before it is indexed."""
    finality_blocks: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    """Depth no reorganisation is expected to reach; a deeper one stops the index for a person."""
    reconcile_blocks: Annotated[int, Field(ge=1, le=100_000)] = 20
    """After so many blocks the rows are held against the contracts anew."""
    reconcile_seconds: Annotated[float, Field(ge=1, le=60)] = 30
    """And while the chain moves at the latest after so long."""
    poll_ms: Annotated[int, Field(ge=10, le=60_000)] = 500
    """How often the chain and the rows are looked at."""
    allow_process_runtime: bool = False
    """Give tasks to providers without containers: development only."""
    max_blob_mib: Annotated[int, Field(ge=1, le=1024 * 1024)] = 1024
    """Largest sealed bundle."""
    max_stored_mib: Annotated[int, Field(ge=1)] = 65_536
    """Sealed bundles of one consumer altogether."""
    max_json_kib: Annotated[int, Field(ge=1, le=65_536)] = 1024
    """Largest JSON body."""
    body_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30
    """Longest pause between two pieces of a request's body; a body that comes at less than 8 KiB a
    second on the whole has no more time than this either."""
    head_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 20
    """Longest wait for a request's first line and headers, from its first byte or from when the
    connection began."""
    session_hours: Annotated[int, Field(ge=1, le=24 * 90)] = 24
    """How long a log-in lasts."""
    nonce_seconds: Annotated[int, Field(ge=10, le=3600)] = 300
    """How long a log-in nonce can be used."""
    idempotency_hours: Annotated[int, Field(ge=1, le=24 * 30)] = 48
    """How long the answer to an Idempotency-Key is kept."""
    login_limit: str = "120/minute"
    """Nonces and log-ins from one IP address."""
    read_limit: str = "6000/minute"
    """Reads of one caller (wallet, or IP address without log-in)."""
    write_limit: str = "1200/minute"
    """Writes of one caller."""
    call_limit: str = "600000/minute"
    """Calls of one caller."""
    max_calls: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    """Calls open at once, of all callers; queued ones count."""
    max_calls_per_caller: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Calls that one wallet may have open at once."""
    call_result_hours: Annotated[int, Field(ge=1, le=24 * 90)] = 24
    """How long the result of a call that may be asked for again is kept."""
    channel_calls: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """A channel is opened and topped up for so many calls at their ceiling, as far as the
    consumer's allowance and account go."""
    channel_refill_percent: Annotated[int, Field(ge=0, le=100)] = 25
    """A channel with less than this share of a top-up left is topped up beside its calls, so that
    none waits for a block; 0: once a call needs it."""
    session_gas_wei: Annotated[int, Field(ge=0)] = 50_000_000_000_000_000
    """Most ether for gas that the dispatcher's wallet sends one session key over its life."""
    gateway_lease_seconds: Annotated[float, Field(ge=0.2, le=300)] = 5
    """How long a gateway that fell silent keeps another one on this database from signing."""
    webhook_loopback: bool = False
    """Deliver webhooks to this machine, on any port and by plain http: development only."""
    max_streams: Annotated[int, Field(ge=1)] = 2000
    """Event streams open at once."""
    max_streams_per_caller: Annotated[int, Field(ge=1)] = 200
    """Event streams one wallet may hold open."""
    stream_poll_ms: Annotated[int, Field(ge=10, le=10_000)] = 200
    """How often an event stream looks for news."""
    max_lag_blocks: Annotated[int, Field(ge=1)] = 50
    """Blocks the index may be behind the node before `/readyz` says degraded."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Origins, separated by commas, whose pages may call us from a browser; none by default."""
    dapp_dir: Path | None = None
    """Folder of the dApp's built files (`dapp/dist`), served at `/`; without it `/` says so."""
    network_name: str = ""
    """What pages and wallets call the chain; empty names it by its id."""
    browser_rpc_url: str = ""
    """JSON-RPC that browsers may ask and wallets are offered for the chain; empty names none."""
    explorer_url: str = ""
    """Block explorer that pages link to, as `EXPLORER_URL/tx/0x...`; empty shows no links."""
    log_level: str = "info"
    """debug, info, warning or error."""
    log_json: bool = True
    """One JSON object a line; false prints for people."""

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, value: str) -> str:
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise ValueError("must be http:// or https:// with a host name, and no query")
        return value.rstrip("/")

    @field_validator("browser_rpc_url", "explorer_url")
    @classmethod
    def _is_an_address_or_empty(cls, value: str) -> str:
        url = urlsplit(value)
        # It goes into a header and into pages: nothing in it may end a directive or a name.
        if value and (
            url.scheme not in ("http", "https")
            or not url.hostname
            or url.username is not None
            or set(value) & set(" ;,'\"<>\\")
        ):
            raise ValueError("must be http:// or https:// with a host name, or empty")
        return value.rstrip("/")

    @field_validator("login_limit", "read_limit", "write_limit", "call_limit")
    @classmethod
    def _is_a_limit(cls, value: str) -> str:
        try:
            parse_limit(value)
        except ValueError:
            # Without the value: whoever mixes two variables up may have put a secret here.
            raise ValueError("must be a limit such as 120/minute") from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _names_every_origin(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            url = urlsplit(origin)
            if url.scheme not in ("http", "https") or not url.hostname or url.path or "*" in origin:
                raise ValueError("each origin must be like https://app.example.org, without path")
        return value

    @field_validator("log_level")
    @classmethod
    def _is_a_level(cls, value: str) -> str:
        if value.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("must be debug, info, warning or error")
        return value.lower()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Reads every variable with our prefix; raises `SettingsError` naming the first bad one."""
        given: dict[str, Any] = {}
        for variable, value in environment.items():
            if not variable.startswith(PREFIX):
                continue
            name = variable.removeprefix(PREFIX).lower()
            if name not in cls.model_fields:
                raise SettingsError(
                    f"{variable} is no setting of the backend",
                    next_step="Correct the name or unset it; backend/README.md lists the settings.",
                )
            if value != "":
                given[name] = value
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            variable = PREFIX + str(first["loc"][0]).upper()
            raise SettingsError(
                f"{variable} cannot be used: {first['msg'].removeprefix('Value error, ')}",
                next_step=f"Set {variable} to a value that fits, or unset it for the default.",
            ) from None

    @property
    def max_blob_bytes(self) -> int:
        return self.max_blob_mib * MIB

    @property
    def max_stored_bytes(self) -> int:
        return self.max_stored_mib * MIB

    @property
    def max_json_bytes(self) -> int:
        return self.max_json_kib * 1024

    def read_dispatcher_key(self) -> str:
        """The dispatcher's private key as `0x` and 64 hex digits; the file must be ours alone."""
        if self.dispatcher_key_file is not None:
            text, variable = _secret_file(self.dispatcher_key_file), "DISPATCHER_KEY_FILE"
        elif self.dispatcher_key is not None:
            text, variable = self.dispatcher_key.get_secret_value().strip(), "DISPATCHER_KEY"
        else:
            raise SettingsError(
                f"{PREFIX}DISPATCHER_KEY_FILE is not set: without a key no lease can be signed",
                next_step="Write a key to a file of mode 0600 and name the file.",
            )
        digits = text.removeprefix("0x").lower()
        is_hex = len(digits) == 64 and all(digit in "0123456789abcdef" for digit in digits)
        if not is_hex or int(digits, 16) == 0:
            # The text stays out of the message: it may be a real key with one digit missing.
            raise SettingsError(
                f"{PREFIX}{variable} holds no private key: {len(digits)} characters after 0x",
                next_step="A key is 64 hex digits.",
            )
        return "0x" + digits


def _secret_file(path: Path) -> str:
    variable = f"{PREFIX}DISPATCHER_KEY_FILE"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(f"{variable}: {path} cannot be read: {reason}") from None
    if mode & 0o077:
        raise SettingsError(
            f"{variable}: {path} can be read by others (mode {mode:04o})",
            next_step=f"Run: chmod 600 {path}",
        )
    return text
