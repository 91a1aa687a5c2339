"""`AsyncGPUClient`: everything a consumer can do, each act in a line or two.

The acts themselves live beside it: submitting, watching, results, funding. `GPUClient` in `sync.py`
is the same class without `await`.
"""

from __future__ import annotations

import asyncio
import time as clock
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import httpx
from pydantic import RootModel

from tallystick import apps as registry
from tallystick import calls as calling
from tallystick import (
    checking,
    funding,
    own_vouchers,
    prices,
    results,
    spending,
    stopping,
    submitting,
    warming,
    watching,
)
from tallystick.bundle import Inputs
from tallystick.calls import CallResult, CallStream
from tallystick.chain import Chain
from tallystick.checking import CallVerdict
from tallystick.config import Config, load_config
from tallystick.connection import Sleep
from tallystick.errors import InvalidRequest
from tallystick.jobs import (
    Balance,
    CheckedReceipt,
    Explanation,
    Job,
    JobResult,
    JobStatus,
    LogEntry,
    MarketOffer,
    Sent,
)
from tallystick.orders import checked_text, make_wish
from tallystick.own_vouchers import SignedCall
from tallystick.prices import Duration, Price
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.call_views import (
    AllowanceView,
    CallReceiptView,
    CallView,
    Grouping,
    KeepWarmView,
    LimitPeriod,
    LimitScope,
    SessionKeyView,
    Spending,
    SpendLimitBody,
    SummaryPage,
)
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.market_views import CardSearch, PriceHistory
from tallystick.protocol.messages import Channel, channel_id
from tallystick.protocol.pricing import rate_per_gpu_second_down
from tallystick.protocol.wire import (
    ApiKeyBody,
    AppBody,
    AppVersionBody,
    ChannelView,
    CreateApiKey,
    DeploymentBody,
    GpuListing,
    GpuPage,
    ProviderBody,
    ProviderPage,
    QuoteBody,
)
from tallystick.session import Now, Session
from tallystick.watching import OnStatus

Scope = Literal["tasks:read", "tasks:write", "calls"]


class ApiKeyList(RootModel[tuple[ApiKeyBody, ...]]):
    """The answer of GET /v1/keys."""


class AsyncGPUClient:
    """A consumer's way into the market, for asyncio programs.

    Settings come from the arguments, the environment (`TALLYSTICK_...`) or a context file; see
    `tallystick.config`. With a session key of your own (`own_key_file`) this client signs for its
    calls itself. `transport` and `chain` replace the network: `tallystick.testing` has both.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        private_key: str | None = None,
        key_file: str | Path | None = None,
        own_key: str | None = None,
        own_key_file: str | Path | None = None,
        api_key: str | None = None,
        rpc_url: str | None = None,
        deployment: str | Path | None = None,
        context: str | None = None,
        auto_deposit: bool = False,
        config: Config | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        chain: Chain | None = None,
        now: Now = clock.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.config = config or load_config(
            context=context,
            url=url,
            private_key=private_key,
            key_file=key_file,
            own_key=own_key,
            own_key_file=own_key_file,
            api_key=api_key,
            rpc_url=rpc_url,
            deployment=deployment,
        )
        self._auto_deposit = auto_deposit
        self._session = Session(self.config, transport=transport, chain=chain, now=now, sleep=sleep)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes connections. Tasks go on by themselves."""
        await self._session.close()

    @property
    def address(self) -> str:
        """The wallet's address; raises ConfigurationError when there is no key."""
        return self._session.wallet.address

    # --- tasks -------------------------------------------------------------------------------

    async def submit(
        self,
        file: str | Path | None,
        gpu: str = "",
        count: int = 0,
        time: Duration = "1h",
        *,
        name: str = "",
        image: str | None = None,
        command: Sequence[str] | None = None,
        args: Sequence[str] = (),
        inputs: Inputs = (),
        env: Mapping[str, str] | None = None,
        max_price: Price | None = None,
        secured: bool = True,
        auto_deposit: bool | None = None,
        outputs_to: str | Path | None = None,
        gpu_memory_mib: int = 0,
        cpu_milli: int = 1000,
        memory_mib: int = 2048,
        disk_mib: int = 1024,
        max_output_mib: int = 256,
    ) -> Job:
        """Orders `file` to run on `count` GPUs of class `gpu` for at most `time`; returns at once.

        `max_price` is the most you pay per GPU and hour, in tokens, as text, int or Decimal.
        `inputs` are files or directories that lie beside the script in the task. `secured` locks
        the most it can cost on chain; without, the signed order is a cheque on your account.
        `outputs_to` waits for the result as well and brings it there.
        """
        wish = make_wish(
            file,
            gpu,
            count,
            time,
            name=name,
            image=image,
            command=command,
            args=args,
            inputs=inputs,
            env=env,
            resources={
                "gpu_memory_mib": gpu_memory_mib,
                "cpu_milli": cpu_milli,
                "memory_mib": memory_mib,
                "disk_mib": disk_mib,
                "max_output_mib": max_output_mib,
            },
        )
        job = await submitting.submit(
            self._session,
            wish,
            max_price=max_price,
            secured=secured,
            auto_deposit=self._auto_deposit if auto_deposit is None else auto_deposit,
        )
        if outputs_to is not None:
            await self.result(job, to=outputs_to)
        return job

    async def get_job_status(self, job: Job | str) -> JobStatus:
        """State, percent and ETA of a task, now."""
        return await watching.status(self._session, job)

    async def list_jobs(
        self, *, state: str | None = None, name: str | None = None, limit: int = 100
    ) -> tuple[JobStatus, ...]:
        """Your tasks, newest first; `name` is how the name begins."""
        return await watching.list_tasks(self._session, state=state, name=name, limit=limit)

    async def wait(
        self,
        job: Job | str,
        timeout: float | Duration | None = None,  # noqa: ASYNC109  # waiting is what it is about
        *,
        until: Literal["finished", "settled"] = "finished",
        on_status: OnStatus | None = None,
    ) -> JobStatus:
        """Until the task has a result (or is settled, or ended without one). `on_status` sees each
        look. Raises TimedOut after `timeout`; the task goes on then."""
        return await watching.wait(
            self._session, job, timeout_s=_timeout_s(timeout), until=until, on_status=on_status
        )

    def logs(self, job: Job | str, *, follow: bool = False) -> AsyncIterator[LogEntry]:
        """What the task wrote; with `follow`, until it ends. Survives broken connections."""
        return watching.logs(self._session, job, follow=follow)

    async def result(
        self,
        job: Job | str,
        to: str | Path | None = None,
        *,
        accept: bool = True,
        timeout: float | Duration | None = None,  # noqa: ASYNC109  # waiting is what it is about
    ) -> JobResult:
        """Waits for the result, verifies and opens it, unpacks it into the directory `to`, and
        accepts it so that the provider is paid at once (unless `accept=False`)."""
        return await results.result(
            self._session, job, to=to, accept=accept, timeout_s=_timeout_s(timeout)
        )

    async def receipt(self, job: Job | str) -> CheckedReceipt:
        """The provider's signed receipt, verified on this machine."""
        return await results.receipt(self._session, job)

    async def accept(self, job: Job | str) -> CheckedReceipt:
        """Verifies the receipt and accepts it, without fetching the result."""
        return await results.accept(self._session, job)

    async def cancel(self, job: Job | str) -> JobStatus:
        """Stops the task; what was used until then is owed. A secured one is also cancelled on
        chain where an endpoint is set: `reclaim` frees its ceiling an hour later."""
        return await stopping.cancel(self._session, job)

    async def reclaim(self, job: Job | str) -> Sent:
        """Brings a locked ceiling back after the task's end, when nobody proved any work."""
        return await stopping.reclaim(self._session, job)

    async def explain(self, job: Job | str) -> Explanation:
        """Why the task is where it is, and why each provider was or was not chosen."""
        return await watching.explain(self._session, job)

    # --- the market --------------------------------------------------------------------------

    def estimate(self, gpus: int, price_per_gpu_hour: Price, time: Duration) -> Decimal:
        """C = n x p x t in tokens, exact: 8 GPUs at 0.5 for 4 hours are Decimal(16)."""
        return prices.estimate(gpus, price_per_gpu_hour, time)

    async def offers(
        self,
        gpu: str = "",
        count: int = 1,
        time: Duration = "1h",
        *,
        max_price: Price | None = None,
    ) -> tuple[MarketOffer, ...]:
        """Who would take such a task now, at which price, and why the others would not."""
        decimals = (await self.deployment()).token_decimals
        ceiling = (
            None
            if max_price is None
            else rate_per_gpu_second_down(prices.checked_price(max_price, "max_price"), decimals)
        )
        gpus = prices.checked_count(count) if gpu else 0
        seconds = prices.duration_seconds(time)
        return await submitting.list_offers(self._session, gpu, gpus, seconds, ceiling)

    async def providers(self) -> tuple[ProviderBody, ...]:
        """Everybody who serves, with stake, GPUs and prices."""
        found: list[ProviderBody] = []
        cursor: str | None = None
        while True:
            page = await self._session.connection.get(
                "/v1/providers", ProviderPage, public=True, params={"cursor": cursor}
            )
            found += page.items
            if (cursor := page.next_cursor) is None:
                return tuple(found)

    async def gpus(self) -> tuple[GpuListing, ...]:
        """Every card on the market."""
        found: list[GpuListing] = []
        cursor: str | None = None
        while True:
            page = await self._session.connection.get(
                "/v1/gpus", GpuPage, public=True, params={"cursor": cursor}
            )
            found += page.items
            if (cursor := page.next_cursor) is None:
                return tuple(found)

    async def search_cards(
        self, where: str = "", *, order: str = "price", limit: int = 50
    ) -> CardSearch:
        """Cards on offer now that fit, as in `vram>=24 gpu in (rtx3090, rtx4090) price<0.5`; the
        fields are in the HTTP API's reference. Raises `InvalidRequest` for what is no search."""
        return await self._session.connection.get(
            "/v1/market/search",
            CardSearch,
            public=True,
            params={"where": where, "order": order, "limit": limit},
        )

    async def price_history(self, days: int = 30) -> PriceHistory:
        """What settled tasks paid for a GPU-second, day by day and class by class."""
        return await self._session.connection.get(
            "/v1/market/prices/history", PriceHistory, public=True, params={"days": days}
        )

    async def deployment(self) -> DeploymentBody:
        """Which chain, contracts and dispatcher this market is."""
        return await self._session.deployment()

    # --- apps and channels -------------------------------------------------------------------

    async def apps(
        self,
        *,
        publisher: str | None = None,
        name: str | None = None,
        text: str | None = None,
        retired: bool | None = None,
        limit: int = 100,
    ) -> tuple[AppBody, ...]:
        """Published apps, newest first, with what a call costs now. `name` is the one that it was
        deployed under, `text` part of the manifest's address, or how the id begins;
        `retired=False` leaves out what has no price."""
        return await registry.list_apps(self._session, publisher, text, retired, limit, name=name)

    async def find_app(self, app: str) -> str:
        """The id of the app that a call to `app` would go to: see `call`."""
        return await registry.find(self._session, app)

    async def app(self, app_id: str) -> AppBody:
        """One app, its latest version and what that costs now."""
        return await registry.app(self._session, app_id)

    async def app_versions(self, app_id: str) -> tuple[AppVersionBody, ...]:
        """Image and manifest of every version, by digest."""
        return await registry.versions(self._session, app_id)

    async def app_price(
        self, app_id: str, version: int | None = None, at: int | None = None
    ) -> QuoteBody:
        """What a call costs that starts at `at` (unix seconds, now if none), by the backend."""
        return await registry.price(self._session, app_id, version, at)

    async def app_history(self, app_id: str) -> AppHistory:
        """Everything the publisher announced: `price_at` and `price_for` compute on this machine
        what the registry answers."""
        return await registry.history(self._session, app_id)

    async def channels(
        self, *, payer: str | None = None, provider: str | None = None, limit: int = 100
    ) -> tuple[ChannelView, ...]:
        """Channels, newest first; anybody's, as they are public on the chain."""
        return await registry.list_channels(self._session, payer, provider, limit)

    async def channel(self, channel_id: str) -> ChannelView:
        """One channel: what is in it, what was redeemed, whether it closes."""
        return await registry.channel(self._session, channel_id)

    # --- calls -------------------------------------------------------------------------------

    async def call(
        self,
        app: str,
        input: Any = None,
        *,
        version: int | None = None,
        max_charge: Price | None = None,
        timeout: float | Duration | None = None,  # noqa: ASYNC109  # waiting is what it is about
    ) -> CallResult:
        """Calls an app, given by id, by name (your own of that name, else the only one) or as
        `publisher/name`, and waits for its answer. `input` is JSON (or JSON text as bytes),
        `max_charge` the most that this call may cost, in tokens. Raises CallFailed for what the
        app or its provider did wrong, and TimedOut when `timeout` is over: the call goes on
        then."""
        return await calling.call(
            self._session,
            app,
            input,
            version=version,
            max_charge=max_charge,
            timeout_s=_timeout_s(timeout),
        )

    def stream_call(
        self,
        app: str,
        input: Any = None,
        *,
        version: int | None = None,
        max_charge: Price | None = None,
    ) -> CallStream:
        """The same for a handler that yields: its pieces as they come."""
        return calling.stream(self._session, app, input, version=version, max_charge=max_charge)

    async def submit_call(
        self,
        app: str,
        input: Any = None,
        *,
        version: int | None = None,
        max_charge: Price | None = None,
        webhook: str | None = None,
    ) -> CallView:
        """Calls an app and returns at once; `call_result` has the answer. `webhook` is an https
        address that is told when the call is over."""
        return await calling.submit_call(
            self._session, app, input, version=version, max_charge=max_charge, webhook=webhook
        )

    async def call_result(
        self,
        call_id: str,
        timeout: float | Duration | None = None,  # noqa: ASYNC109  # waiting is what it is about
    ) -> CallResult:
        """The answer of a call made before; waits until it is over."""
        return await calling.result(self._session, call_id, _timeout_s(timeout))

    async def cancel_call(self, call_id: str) -> CallView:
        """Stops a call that is not answered yet. It costs nothing."""
        return await calling.cancel(self._session, call_id)

    async def calls(
        self,
        *,
        app: str | None = None,
        provider: str | None = None,
        key: str | None = None,
        state: str | None = None,
        from_ms: int | None = None,
        until_ms: int | None = None,
        limit: int = 100,
    ) -> tuple[CallView, ...]:
        """Your calls, newest first. `key` is an API key's id; "" are those of your wallet."""
        filters: dict[str, str | int | None] = {
            "app": app,
            "provider": provider,
            "key": key,
            "state": state,
            "from_ms": from_ms,
            "until_ms": until_ms,
        }
        return await calling.list_calls(self._session, filters, limit)

    async def call_info(self, call_id: str) -> CallView:
        """One call: where it stands, what it cost, where the time went."""
        return await calling.call_info(self._session, call_id)

    async def call_receipt(self, call_id: str) -> CallReceiptView:
        """Everything to check a call by; `verify_receipt` does."""
        return await calling.call_receipt(self._session, call_id)

    async def verify_receipt(
        self,
        call: str | CallResult | CallReceiptView,
        *,
        content: bytes | None = None,
        input: Any = None,
    ) -> CallVerdict:
        """Checks a call from the two parties' signatures and the chain, believing the backend
        nothing; needs a chain endpoint. `content` is the result as delivered and `input` what was
        sent: a CallResult has both. What is not shown leaves its checks open, never good."""
        call_id: str | None = None
        sent = None if input is None else digest_of(calling.input_bytes(input))
        if isinstance(call, CallReceiptView):
            receipt = call
        else:
            call_id = call if isinstance(call, str) else call.call_id
            receipt = await calling.call_receipt(self._session, call_id)
        if isinstance(call, CallResult):
            content = call.content if content is None else content
            sent = call.input_digest if sent is None else sent
        return await checking.verify(
            self._session, receipt, call_id=call_id, content=content, sent=sent
        )

    async def summaries(
        self,
        by: Literal["hour", "day"] = "day",
        *,
        time_zone: str = "UTC",
        group: Sequence[Grouping] = (),
        from_ms: int | None = None,
        until_ms: int | None = None,
        app: str | None = None,
        provider: str | None = None,
        key: str | None = None,
        kinds: Sequence[Spending] = ("call",),
    ) -> SummaryPage:
        """What your calls came to: exact sums by the hour or the day of a time zone, for each app,
        provider, gpu, key or channel if you `group` by them. With `kinds=("call", "task")` tasks,
        too, in rows of their own, where the chain settled them."""
        params = calling.summary_params(
            by, time_zone, group, from_ms, until_ms, app, provider, key, kinds
        )
        return await calling.summaries(self._session, params)

    async def summaries_csv(
        self,
        by: Literal["hour", "day"] = "day",
        *,
        time_zone: str = "UTC",
        group: Sequence[Grouping] = (),
        from_ms: int | None = None,
        until_ms: int | None = None,
        app: str | None = None,
        provider: str | None = None,
        key: str | None = None,
        kinds: Sequence[Spending] = ("call",),
    ) -> str:
        """The same as CSV, for a spreadsheet: amounts in the smallest unit."""
        params = calling.summary_params(
            by, time_zone, group, from_ms, until_ms, app, provider, key, kinds
        )
        return await calling.summaries_csv(self._session, params)

    # --- who pays for calls ------------------------------------------------------------------

    async def session_key(self) -> SessionKeyView:
        """The key that the gateway signs your vouchers with."""
        return await spending.session_key(self._session)

    async def grant_allowance(self, cap: Price, time: Duration = "30d") -> AllowanceView:
        """Lets the gateway's session key move at most `cap` tokens of your account into channels,
        for so long. It can spend them on calls and on nothing else."""
        return await spending.grant_allowance(self._session, cap, time)

    async def allowances(self) -> tuple[AllowanceView, ...]:
        """What you allowed, and what is left of it."""
        return await spending.allowances(self._session)

    async def revoke_allowance(self, digest: str) -> Sent:
        """Ends an allowance on chain, at once; what is in channels stays there."""
        return await spending.revoke_allowance(self._session, digest)

    async def open_channel(
        self, provider: str, amount: Price, signer: str | None = None
    ) -> tuple[str, Sent]:
        """Opens a channel with a provider, out of your account: for calls that you sign for by your
        own session key, or by another `signer`'s. Answers its id."""
        channel, sent = await spending.open_channel(self._session, provider, amount, signer)
        return channel_id(channel), sent

    async def fund_channel(self, channel_id: str, amount: Price) -> Sent:
        """Tops a channel up, out of your account."""
        found = await registry.channel(self._session, channel_id)
        return await spending.fund_channel(self._session, Channel.from_body(found.channel), amount)

    async def sign_vouchers(self, *, unseen: bool = False) -> tuple[SignedCall, ...]:
        """Signs for calls that were answered and not signed for, after a program was killed: those
        that the notes of your own key know. `unseen` signs for others, too: check them first."""
        return await own_vouchers.sign_left(self._session, unseen=unseen)

    async def close_channel(self, channel_id: str) -> tuple[Sent, int]:
        """Asks for a channel's close; once the close period is over, carries it out. Answers the
        transaction and when to come again, 0 if it is closed."""
        found = await registry.channel(self._session, channel_id)
        return await spending.close_channel(self._session, Channel.from_body(found.channel))

    async def spend_limits(self) -> tuple[SpendLimitBody, ...]:
        """The limits on what your calls may cost, and what was spent of each."""
        return await spending.spend_limits(self._session)

    async def set_spend_limit(
        self,
        limit: Price,
        scope: LimitScope = "workspace",
        subject: str = "",
        period: LimitPeriod = "day",
    ) -> SpendLimitBody:
        """The most tokens that calls may cost: of the workspace, of a key or of an app (its id is
        the `subject`); for each call, a day (UTC) or in total. Setting it again changes it."""
        return await spending.set_spend_limit(self._session, limit, scope, subject, period)

    async def remove_spend_limit(self, limit_id: str) -> None:
        """Takes a limit away, at once."""
        await spending.remove_spend_limit(self._session, limit_id)

    # --- apps that are kept warm -------------------------------------------------------------

    async def keep_warm(
        self,
        app: str,
        time: Duration,
        *,
        max_per_hour: Price,
        every: Duration | None = None,
        version: int | None = None,
        dry_run: bool = False,
    ) -> KeepWarmView:
        """Keeps a worker of an app, named as in `call`, up for so long: the gateway sends it a call
        with no work in it now and then, a call of yours at the app's price, for at most
        `max_per_hour` tokens in an hour. With `dry_run` only what that would cost is answered."""
        return await warming.keep_warm(
            self._session,
            app,
            time,
            max_per_hour,
            version=version,
            every=every,
            dry_run=dry_run,
        )

    async def warm_list(self) -> tuple[KeepWarmView, ...]:
        """What you keep warm, its price now, what it cost so far and its last failure."""
        return await warming.warm_list(self._session)

    async def stop_warm(self, warm_id: str) -> KeepWarmView:
        """Keeps it warm no longer, at once; what it cost."""
        return await warming.stop_warm(self._session, warm_id)

    async def upload_manifest(self, file: bytes) -> str:
        """Hands an app's published manifest to the backend, for the providers that serve it."""
        return await registry.upload_manifest(self._session, file)

    # --- money -------------------------------------------------------------------------------

    async def balance(self, address: str | None = None) -> Balance:
        """What is in the wallet, available in the escrow, and reserved for open tasks."""
        return await funding.balance(self._session, address)

    async def deposit(self, amount: Price) -> Sent:
        """From the wallet into the escrow, in tokens."""
        return await funding.deposit(self._session, amount)

    async def withdraw(self, amount: Price, to: str | None = None) -> Sent:
        """From the escrow to the wallet, or to another address, at once; nobody can hold it."""
        return await funding.withdraw(self._session, amount, to)

    # --- access ------------------------------------------------------------------------------

    async def login(self) -> str:
        """Logs in now instead of at the first call that needs it; returns the address."""
        return await self._session.log_in()

    async def create_api_key(
        self, name: str, scopes: Sequence[Scope] = ("tasks:read",)
    ) -> ApiKeyBody:
        """A key for programs without a wallet. Its secret is in this answer and never again."""
        unknown = set(scopes) - set(get_args(Scope))
        if unknown or not scopes:
            raise InvalidRequest(
                f"The scopes {sorted(map(str, scopes))} are none that a key can have.",
                next_step=f"Use: {', '.join(get_args(Scope))}.",
            )
        body = CreateApiKey(name=checked_text("name", name), scopes=tuple(scopes))
        return await self._session.connection.post("/v1/keys", body, ApiKeyBody)

    async def list_api_keys(self) -> tuple[ApiKeyBody, ...]:
        """Your API keys, without their secrets."""
        page = await self._session.connection.get("/v1/keys", ApiKeyList)
        return page.root

    async def revoke_api_key(self, key_id: str) -> None:
        """Makes a key useless, at once."""
        await self._session.connection.delete(f"/v1/keys/{_safe_segment(key_id)}")


def _timeout_s(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, float):
        if not 0 <= timeout < float("inf"):
            raise InvalidRequest(
                f"The time-out is {timeout!r}.", next_step="Give seconds, '10m', or None."
            )
        return timeout
    return 0.0 if timeout == 0 and timeout is not False else prices.duration_seconds(timeout)


def _safe_segment(text: str) -> str:
    if text and text.isascii() and all(c.isalnum() or c in "-_" for c in text):
        return text
    raise InvalidRequest(
        f"{text[:80]!r} is no key id.", next_step="`tallystick key list` shows them."
    )
