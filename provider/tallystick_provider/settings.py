"""Settings of the agent, read once from the environment.

Every field is a variable `TALLYSTICK_PROVIDER_<FIELD IN CAPITALS>`. There are few on purpose: what
the chain or the backend knows is asked there. `tallystick-provider doctor` checks each of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from tallystick_provider.errors import SettingsError

PREFIX = "TALLYSTICK_PROVIDER_"
SIMULATED = re.compile(
    r"^simulated:(?P<count>[0-9]{1,3})x(?P<gpu_class>[a-z0-9-]+):(?P<memory_mib>[0-9]+)$"
)


def _pairs(value: object) -> object:
    """`a=1,b=2` -> {"a": "1", "b": "2"}; a mapping passes as it is."""
    if not isinstance(value, str):
        return value
    pairs: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in value.split(","))):
        name, sign, figure = item.rpartition("=")
        if not sign:
            raise ValueError(f"{item!r} has no '='; write name=value,name=value")
        pairs[name.strip()] = figure.strip()
    return pairs


def _list(value: object) -> object:
    """`a,b` -> ("a", "b")."""
    if not isinstance(value, str):
        return value
    return tuple(filter(None, (part.strip() for part in value.split(","))))


def _whole_text(value: object) -> object:
    return value if isinstance(value, int) else _whole(value)


_APP_ID = re.compile(r"^0x[0-9a-fA-F]{64}$")


class Settings(BaseModel):
    """One provider on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    address: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    """The staked provider account. It is never needed here with its private key."""
    key_file: Path
    """File (mode 0600) with the operator key in hex: signs receipts, log-ins and transactions."""
    rpc_url: str = "http://127.0.0.1:8545"
    """JSON-RPC of a node the provider trusts: it reads locks and stakes there itself."""
    deployment: str = ""
    """Path of the deployment's JSON, or a chain id known to `tallystick.protocol`."""
    nats_url: str = "nats://127.0.0.1:4222"
    """Message bus of the backend. The agent only ever connects outwards."""
    data_dir: Path = Path("/var/lib/tallystick")
    """Journal, keys of the agent, task directories."""
    runtime: Literal["docker", "process"] = "docker"
    """`process` runs strangers' code without a container: development only."""
    docker_url: str = ""
    """Docker engine, empty for the SDK's own default (`DOCKER_HOST` or the local socket)."""
    runc_accepted: str = ""
    """A version of runc below the first with the known holes closed that you know to be patched, as
    `doctor` prints it; `any` for development. Without it the agent does not start on such a one."""
    gpus: str = "nvml"
    """`nvml`, `none`, or `simulated:<count>x<class>:<memory_mib>` for machines without a card."""
    gpu_classes: Annotated[dict[str, str], BeforeValidator(_pairs)] = Field(default_factory=dict)
    """`<model pattern>=<class>` pairs that come before the built-in table, e.g. `*H100*=gpu1`."""
    rate: dict[str, Annotated[int, Field(ge=0, lt=2**128)]]
    """Floor by class, smallest unit per GPU-second: `gpu1=138888888888888,=0` (last: no GPU)."""
    cpu_milli: Annotated[int, Field(ge=100)] = 2000
    """CPU for tasks and workers altogether, in thousandths of a core."""
    memory_mib: Annotated[int, Field(ge=64)] = 4096
    """Memory for tasks and workers altogether."""
    disk_mib: Annotated[int, Field(ge=16)] = 10_240
    """Disk for inputs, results and workers altogether."""
    image_mib: Annotated[int, Field(ge=64)] = 32_768
    """Largest image that is pulled: so much downloaded, and so much again unpacked."""
    acceptance_wait_seconds: Annotated[int, Field(ge=0)] = 60
    """How long a finished task waits for the consumer's acceptance before it is proven alone."""
    stop_grace_seconds: Annotated[int, Field(ge=1, le=60)] = 5
    """Time between SIGTERM and SIGKILL."""
    poll_seconds: Annotated[float, Field(ge=0.01, le=30)] = 0.25
    """How often a running container is looked at."""
    settle_seconds: Annotated[float, Field(ge=0.01, le=600)] = 1.0
    """How often unsettled work is looked at."""
    stuck_seconds: Annotated[int, Field(ge=1)] = 60
    """A transaction not mined for so long is sent again with a higher fee, on the same nonce."""

    apps: Annotated[tuple[str, ...], BeforeValidator(_list)] = ("*",)
    """Apps whose calls are answered: ids separated by commas, `*` for every app whose price meets
    the floor, `none` for none."""
    apps_dir: Path | None = None
    """Only for `process`: the folder in which the project of each app lies under the app's name."""
    warm_workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Most workers of one version kept warm without a call because its manifest asks for it. Nobody
    pays for that, so it is yours to give."""
    warm_give_way: bool = False
    """Whether these, too, are stopped for a task that needs their room; other idle workers always
    are."""
    idle_seconds: Annotated[int, Field(ge=0, le=86_400)] = 300
    """A worker without a call is stopped after so long at the latest, whatever its app wishes."""
    credit_calls: Annotated[int, Field(ge=1, le=1024)] = 1
    """Calls of one channel that may be without a voucher: what one payer can leave unpaid."""
    confirmations: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Blocks over a channel's deposit before it counts; 0 where a block is final at once."""
    redeem_cost: Annotated[int, BeforeValidator(_whole_text), Field(ge=0, lt=2**128)] = 10**15
    """What redeeming one voucher costs you, in the token's smallest unit: gas at today's price."""
    redeem_at: Annotated[int, Field(ge=1, le=10**9)] = 20
    """A voucher is redeemed when it is worth more than so many times `redeem_cost`."""
    redeem_share_bps: Annotated[int, Field(ge=1, le=10_000)] = 5_000
    """Or when it is worth more than this share of the channel's deposit, in basis points."""

    @field_validator("apps")
    @classmethod
    def _known_apps(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for app in value:
            if app not in ("*", "none") and not _APP_ID.match(app):
                raise ValueError(f"{app!r} is no app id (0x and 64 hex digits), * or none")
        return tuple(app.lower() for app in value if app != "none")

    @field_validator("gpus")
    @classmethod
    def _known_gpus(cls, value: str) -> str:
        if value in ("nvml", "none") or SIMULATED.match(value):
            return value
        raise ValueError("use nvml, none, or simulated:<count>x<class>:<memory_mib>")

    @field_validator("rate", mode="before")
    @classmethod
    def _whole_rates(cls, value: Any) -> Any:
        rates = _pairs(value)
        if not isinstance(rates, dict) or not rates:
            raise ValueError("name at least one class, such as gpu1=138888888888888")
        return {name: _whole(figure) for name, figure in rates.items()}

    @property
    def journal_path(self) -> Path:
        return self.data_dir / "journal.sqlite"

    @property
    def call_journal_path(self) -> Path:
        return self.data_dir / "calls.sqlite"

    @property
    def provider_subject(self) -> str:
        return self.address.lower()


def _whole(figure: object) -> int:
    try:
        amount = Decimal(str(figure))
    except InvalidOperation:
        raise ValueError(f"{figure!r} is not a number") from None
    if not amount.is_finite() or amount != amount.to_integral_value():
        raise ValueError(f"{figure} is not a whole number of the token's smallest unit")
    return int(amount)


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Reads `TALLYSTICK_PROVIDER_*`; names every variable that is missing, wrong or unknown."""
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value != ""
    }
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    lines = ["the environment does not describe a provider:"]
    for problem in error.errors(include_url=False, include_context=False):
        name = PREFIX + str(problem["loc"][0]).upper()
        if problem["type"] == "missing":
            lines.append(f"  {name} is not set; see provider/README.md for an example")
        elif problem["type"] == "extra_forbidden":
            lines.append(f"  {name} is not a setting; remove it or correct its spelling")
        else:
            lines.append(f"  {name}: {problem['msg']} (is {problem['input']!r})")
    return "\n".join(lines)


def table() -> str:
    """The settings as the README shows them; a test holds the two together."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        if field.is_required():
            default = "required"
        elif field.default_factory is not None or field.default in ("", None):
            default = "empty"
        elif isinstance(field.default, tuple):
            default = f"`{','.join(field.default)}`"
        else:
            default = f"`{field.default}`"
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {meaning} |")
    return "\n".join(rows)
