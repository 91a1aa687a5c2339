"""`tallystick app`: write an app, try it here, publish it. What is published: `apps`."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import shlex
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick import app_images
from tallystick.app.problems import ProjectError
from tallystick.app.project import Project, read_project
from tallystick.cli import apps, exits, warm
from tallystick.cli.command import Act, command
from tallystick.config import Config
from tallystick.errors import (
    ConfigurationError,
    InvalidRequest,
    TallystickError,
    TaskFailed,
    TimedOut,
)
from tallystick.inputs import call_input
from tallystick.protocol.app_manifest import AppManifest, app_manifest_digest, image_digest
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.manifest import canonical_json
from tallystick.protocol.types import ZERO_ADDRESS, Address, AppId, to_address, to_digest
from tallystick.scaffold import write_project
from tallystick.wallet import Wallet

if TYPE_CHECKING:
    from tallystick.app.declare import Entry
    from tallystick.app.serving import Stop
    from tallystick.publishing import Deployed, Plan, RegistryChain

app = apps.app
app.add_typer(warm.group)

MANIFEST_FILE = "manifest.json"

Directory = Annotated[
    Path, typer.Option("--dir", metavar="DIR", help="The project's directory; here if none.")
]


@command(app, "init")
def init(
    act: Act,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case, such as hello-gpu.")],
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where to; NAME if none.")
    ] = None,
) -> None:
    """Write a working project: handler, tallystick.toml, Dockerfile, test. Overwrites nothing."""
    place = directory or Path(name)
    written = write_project(name, place)
    act.out.data({"name": name, "directory": str(place), "files": [str(path) for path in written]})
    act.out.say(f"Wrote {len(written)} files into {place}: {', '.join(p.name for p in written)}.")
    act.out.say(f"Try it: cd {shlex.quote(str(place))} && tallystick app serve -i name=world")


# --- serve ------------------------------------------------------------------------------------


@command(app, "serve")
def serve(
    act: Act,
    directory: Directory = Path(),
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "-i",
            "--input",
            metavar="INPUT",
            help="Answer one call with this input and end: name=value, name=@file, @input.json.",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 takes a free one.")
    ] = 8080,
) -> None:
    """Answer calls on this machine, by the same code as in the container. Nothing is charged."""
    serving = _serving()
    project = _project(directory)
    given = call_input(inputs) if inputs else None
    serving.log_to_stderr(as_json=act.out.as_json)
    with _sentences():
        entry = _loaded(serving.load_entry, project)
        listener = serving.listen_on_port(0 if inputs else port)
    url = f"http://{serving.LOOPBACK}:{listener.getsockname()[1]}/call"
    if inputs:
        _answer_once(act, project, entry, listener, url, given)
        return

    def when_ready(_stop: Stop) -> None:
        example = json.dumps(_example(project.draft), ensure_ascii=False)
        curl = f"curl {url} -H 'content-type: application/json' -d {shlex.quote(example)}"
        act.out.data({"url": url, "curl": curl})
        act.out.say(f"{project.name} answers at {url} until Ctrl-C. Try:")
        act.out.raw(curl + "\n")

    _end(serving.serve(project, entry, listener, when_ready=when_ready))


def _answer_once(
    act: Act, project: Project, entry: Entry, listener: socket.socket, url: str, given: Any
) -> None:
    """Starts the worker, calls it over HTTP, prints the answer, and ends it."""
    import httpx

    answers: list[httpx.Response | httpx.HTTPError] = []

    def ask(stop: Stop) -> None:
        patience_s = project.draft.timeout_s + 5
        try:
            answers.append(httpx.post(url, json=given, timeout=patience_s, trust_env=False))
        except httpx.HTTPError as problem:
            answers.append(problem)
        finally:
            stop()

    # What the handler prints is for people: stdout is the answer's alone.
    with contextlib.redirect_stdout(sys.stderr):
        code = _serving().serve(
            project,
            entry,
            listener,
            when_ready=lambda stop: threading.Thread(target=ask, args=(stop,)).start(),
        )
    if not answers:
        _end(code)
        raise TaskFailed("The worker ended before it could be called.")
    _show_answer(act, answers[0])


def _show_answer(act: Act, answer: Any) -> None:
    """Prints it as it came; a problem ends the command with its code."""
    if isinstance(answer, Exception):
        raise TaskFailed(
            f"The call was not answered: {type(answer).__name__}: {answer}.",
            next_step="See the worker's log above.",
        )
    if answer.is_success:
        sys.stdout.flush()
        sys.stdout.buffer.write(answer.content)
        sys.stdout.buffer.write(b"" if answer.content.endswith(b"\n") else b"\n")
        sys.stdout.buffer.flush()
        return
    told = answer.json()
    kind: type[TallystickError] = InvalidRequest if told["fault"] == "caller" else TaskFailed
    if told["code"] == "timed_out":
        kind = TimedOut
    raise kind(told["detail"], next_step=told["next_step"], problem=told)


def _example(manifest: AppManifest) -> Any:
    """An input that fits the schema, as far as the schema says what one looks like."""
    schema = json.loads(manifest.input_schema or "{}")
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    names = schema.get("required") or list(properties)
    return {name: _example_of(properties.get(name, {})) for name in names}


def _example_of(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return "..."
    for name in ("examples", "enum"):
        if isinstance(schema.get(name), list) and schema[name]:
            return schema[name][0]
    plain = {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}
    return schema.get("default", plain.get(str(schema.get("type")), "..."))


# --- deploy -----------------------------------------------------------------------------------


@command(app, "deploy")
def deploy(
    act: Act,
    directory: Directory = Path(),
    image: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE",
            help="name@sha256:..., a local image's name, or process (development runtime); "
            "built from the Dockerfile if none.",
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="What the Dockerfile starts from.")
    ] = None,
    app_id: Annotated[
        str | None,
        typer.Option("--app", metavar="APP", help="Change this app, not the one of your name."),
    ] = None,
    price_flat: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="Flat part of each call's charge.")
    ] = None,
    price_call: Annotated[str | None, typer.Option(metavar="TOKENS", help="Fee per call.")] = None,
    price_gpu_hour: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="Each GPU's hour, by the millisecond.")
    ] = None,
    uri: Annotated[
        str | None, typer.Option(metavar="URI", help="Where callers will find manifest.json.")
    ] = None,
    deployment: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The contracts' file, if this chain's are not known."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change and send nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Publish the app, add a version to it, or announce a new price. Shows it and asks first."""
    # web3 is heavy, and no other command of this page needs it
    from tallystick import publishing

    config = act.config()
    project = _project(directory)
    wallet = _wallet(config)
    rpc_url = _rpc_url(config)
    if act.out.as_json and not (yes or dry_run):
        raise InvalidRequest(
            "With --json nobody is asked.", next_step="Say --yes to publish, or --dry-run to look."
        )
    if deployment is None and config.deployment is not None:
        deployment = Path(config.deployment).expanduser()
    wanted_id = None if app_id is None else _app_id(app_id)
    chosen = _image(act, project, image, base)
    with _sentences():
        manifest = project.manifest(chosen)
    digest = app_manifest_digest(manifest)
    path = project.directory / MANIFEST_FILE
    content = canonical_json(manifest)
    path.write_bytes(content)

    async def publish() -> None:
        async with publishing.connect_registry(rpc_url, deployment) as chain:
            wanted = publishing.Wanted(
                name=project.name,
                image_digest=image_digest(chosen),
                manifest_digest=digest,
                uri=publishing.checked_uri(uri or project.uri, digest),
                price=chain.price_of(
                    price_flat or project.price.flat,
                    price_call or project.price.call,
                    price_gpu_hour or project.price.gpu_hour,
                ),
                royalty_to=_royalty_to(project),
                royalty_bps=project.royalty_bps,
            )
            plan = await chain.plan(wanted, wallet.address, wanted_id)
            _show_plan(act, plan, chain, chosen, path)
            if plan.act == "nothing" or dry_run:
                uploaded = not dry_run and await _upload(act, config, content)
                told = _told(plan, chain, chosen, sent=None, takes_effect_s=None)
                act.out.data(told | {"uploaded": uploaded})
                return
            if not yes:
                _ask(plan)
            done = await chain.carry_out(plan, wallet)
            uploaded = await _upload(act, config, content)
            told = _told(plan, chain, chosen, sent=done.sent, takes_effect_s=done.takes_effect_s)
            act.out.data(told | {"uploaded": uploaded})
            _say_done(act, plan, done, uploaded=uploaded)

    asyncio.run(publish())


def _show_plan(act: Act, plan: Plan, chain: RegistryChain, image: str, file: Path) -> None:
    wanted = plan.wanted
    facts: dict[str, object] = {
        "app": f"{wanted.name}  {plan.app_id}",
        "publisher": f"{plan.publisher} on chain {chain.deployment.chain_id}",
        "version": plan.version,
    }
    if plan.act in ("publish", "add_version"):
        facts |= {
            "image": image,
            "manifest": f"{wanted.manifest_digest} ({file}, {file.stat().st_size} bytes)",
            "found at": wanted.uri,
        }
    facts["price"] = chain.told(wanted.price)
    if plan.price_before is not None and plan.price_before != wanted.price:
        facts["price before"] = chain.told(plan.price_before)
    if plan.act == "publish" and wanted.royalty_bps:
        facts["royalty"] = f"{wanted.royalty_bps / 100:g} % of each call to {wanted.royalty_to}"
    act.out.facts(facts)
    act.out.say(_WILL[plan.act].format(version=plan.version, earlier=_earlier(plan.version - 1)))
    if plan.takes_effect_s is not None:
        act.out.say(f"It holds from {_time(plan.takes_effect_s)} on, or a little later.")


_WILL = {
    "publish": "The app is new: this publishes version {version}.",
    "add_version": "This adds version {version}, at its own price at once; {earlier} as before.",
    "set_price": "Image and manifest are version {version}'s: only its price changes.",
    "nothing": "Version {version} is just this, at this price. There is nothing to publish.",
}


def _earlier(count: int) -> str:
    return "version 1 stays" if count == 1 else f"versions 1 to {count} stay"


def _ask(plan: Plan) -> None:
    try:
        agreed = typer.confirm("Send the transaction?", err=True)
    except typer.Abort:
        raise InvalidRequest(
            "Nobody answered, and nothing was published.", next_step="Say --yes to publish."
        ) from None
    if not agreed:
        typer.echo("Nothing was published.", err=True)
        raise typer.Exit(exits.REFUSED)


async def _upload(act: Act, config: Config, manifest: bytes) -> bool:
    """Hands the manifest to the backend, if one is named: its providers serve the app from then on.
    What is published stays published without it."""
    if not config.url_given:
        return False
    # httpx is not needed by who only publishes
    from tallystick.client import AsyncGPUClient

    try:
        async with AsyncGPUClient(config=config) as client:
            await client.upload_manifest(manifest)
    except TallystickError as problem:
        act.out.say(f"The backend at {config.url} did not take the manifest: {problem.sentence}")
        act.out.say("The app is published all the same; deploy again to hand it in.")
        return False
    act.out.say(f"The backend at {config.url} has the manifest: the app can be called there.")
    return True


def _say_done(act: Act, plan: Plan, done: Deployed, *, uploaded: bool) -> None:
    what = {
        "publish": f"Published version 1 of {plan.wanted.name}",
        "add_version": f"Added version {plan.version} of {plan.wanted.name}",
        "set_price": f"Announced the price of version {plan.version} of {plan.wanted.name}",
    }[plan.act]
    act.out.say(f"{what} in transaction {done.sent.tx} ({done.sent.gas_used} gas).")
    if done.takes_effect_s is not None:
        act.out.say(f"It holds from {_time(done.takes_effect_s)} on.")
    if plan.act != "set_price" and plan.wanted.uri.startswith("urn:") and not uploaded:
        act.out.say(
            f"Callers know {MANIFEST_FILE} by its digest only: keep the file, and give it to who "
            "serves the app. With [publish] uri the next version says where it is."
        )
    act.out.raw(f"{plan.app_id}\n")


def _told(
    plan: Plan, chain: RegistryChain, image: str, *, sent: object, takes_effect_s: int | None
) -> dict[str, Any]:
    wanted = plan.wanted

    def price(of: Any) -> dict[str, str]:
        return {
            "flat": str(of.flat),
            "fee_per_call": str(of.fee_per_call),
            "rate_per_gpu_second": str(of.rate_per_gpu_second),
        }

    return {
        "act": plan.act,
        "app": plan.app_id,
        "name": wanted.name,
        "publisher": plan.publisher,
        "chain_id": chain.deployment.chain_id,
        "version": plan.version,
        "image": image,
        "image_digest": wanted.image_digest,
        "manifest_digest": wanted.manifest_digest,
        "uri": wanted.uri,
        "price": price(wanted.price),
        "price_before": None if plan.price_before is None else price(plan.price_before),
        "takes_effect_at": takes_effect_s if sent else plan.takes_effect_s,
        "sent": sent,
    }


# --- what was given ---------------------------------------------------------------------------


def _project(directory: Path) -> Project:
    with _sentences():
        return read_project(directory)


@contextlib.contextmanager
def _sentences() -> Any:
    """The container's errors as the command line's."""
    try:
        yield
    except ProjectError as problem:
        sentence = str(problem)
        raise InvalidRequest(
            sentence[0].upper() + sentence[1:] + ".", next_step="Correct it and try again."
        ) from problem


def _loaded(load_entry: Callable[[Project], Entry], project: Project) -> Entry:
    try:
        return load_entry(project)
    except ProjectError:
        raise
    except Exception as problem:
        traceback.print_exc()
        raise InvalidRequest(
            f"The handler cannot be imported: {type(problem).__name__}: {problem}.",
            next_step="The trace above says where; correct it and try again.",
        ) from problem


def _serving() -> Any:
    try:
        # The server is an extra of the package.
        from tallystick.app import serving
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"{missing.name} is not installed, and the server needs it.",
            next_step="pip install 'tallystick[app]'",
        ) from missing
    return serving


def _image(act: Act, project: Project, image: str | None, base: str | None) -> str:
    if image is not None:
        return app_images.pinned(image)
    return app_images.built(
        project.directory,
        project.name,
        base,
        report=lambda step, detail: act.out.say(f"{step:<14} {detail}"),
    )


def _wallet(config: Config) -> Wallet:
    if config.private_key is None:
        raise ConfigurationError(
            "There is no wallet key, and publishing has to be signed.",
            next_step="Set TALLYSTICK_KEY_FILE (or TALLYSTICK_PRIVATE_KEY); "
            "`tallystick wallet create` makes a key.",
        )
    return Wallet(config.private_key)


def _rpc_url(config: Config) -> str:
    if config.rpc_url is None:
        raise ConfigurationError(
            "There is no chain endpoint, and publishing is a transaction.",
            next_step="Set TALLYSTICK_RPC_URL.",
        )
    return config.rpc_url


def _app_id(text: str) -> AppId:
    try:
        return AppId(to_digest(text))
    except ProtocolError as problem:
        raise InvalidRequest(
            f"--app: {problem}.", next_step="An app id is 0x and 64 hex digits; copy it again."
        ) from problem


def _royalty_to(project: Project) -> Address:
    if not project.royalty_to:
        if project.royalty_bps:
            raise InvalidRequest(
                f"A royalty of {project.royalty_bps} basis points goes to nobody.",
                next_step="Write [publish] royalty_to in tallystick.toml, or no royalty.",
            )
        return ZERO_ADDRESS
    try:
        return to_address(project.royalty_to)
    except ProtocolError as problem:
        raise InvalidRequest(
            f"publish.royalty_to: {problem}.", next_step="Correct it in tallystick.toml."
        ) from problem


def _end(code: int) -> None:
    if code:
        raise typer.Exit(exits.FAILED)


def _time(unix_s: int) -> str:
    moment = datetime.datetime.fromtimestamp(unix_s, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
