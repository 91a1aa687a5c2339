"""`tallystick task`: submit, look, wait, fetch, cancel."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Callable
from typing import Annotated, Literal

import typer

from tallystick.cli import exits
from tallystick.cli.command import Act, command
from tallystick.cli.output import amount, price
from tallystick.errors import InvalidRequest
from tallystick.jobs import CheckedReceipt, JobResult, JobState, JobStatus
from tallystick.prices import duration_seconds
from tallystick.protocol.money import format_duration

app = typer.Typer(
    name="task", help="Run tasks: submit, watch, fetch, cancel.", no_args_is_help=True
)

TaskId = Annotated[str, typer.Argument(metavar="TASK", help="Id of the task, 0x and 64 digits.")]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="TIME", help="Give up after this long: 10m.")
]


def submit(
    act: Act,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Script to run (.py or .sh).")
    ] = None,
    args: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGS", help="Arguments of the script, after --."),
    ] = None,
    gpu: Annotated[str, typer.Option(help="GPU class, such as gpu1; none: CPU only.")] = "",
    count: Annotated[int | None, typer.Option(help="GPUs at once. [default: 1]")] = None,
    time: Annotated[str, typer.Option(metavar="TIME", help="Longest run: 8h, 90m, 1d12h.")] = "1h",
    name: Annotated[str, typer.Option(help="Name to find it by; the file's name if none.")] = "",
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Image by digest: name@sha256:...")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--command", metavar="TEXT", help="Command instead of a script."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="PATH", help="File or directory to take along."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME=VALUE", help="Environment variable of the task."),
    ] = None,
    max_price: Annotated[
        str | None,
        typer.Option(metavar="TOKENS", help="Most to pay per GPU and hour."),
    ] = None,
    unsecured: Annotated[
        bool, typer.Option("--unsecured", help="Only sign the order; lock nothing on chain.")
    ] = False,
    auto_deposit: Annotated[
        bool, typer.Option("--auto-deposit", help="Deposit what is missing from the wallet.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until there is a result.")] = False,
    to: Annotated[
        str | None, typer.Option("--to", metavar="DIR", help="Wait, and bring the result here.")
    ] = None,
    timeout: Timeout = None,
    gpu_memory: Annotated[
        int, typer.Option(metavar="MIB", help="Least memory of each GPU, MiB.")
    ] = 0,
    cpu: Annotated[int, typer.Option(metavar="MILLI", help="Thousandths of a CPU.")] = 1000,
    memory: Annotated[int, typer.Option(metavar="MIB", help="Memory, MiB.")] = 2048,
    disk: Annotated[int, typer.Option(metavar="MIB", help="Disk, MiB.")] = 1024,
    max_output: Annotated[int, typer.Option(metavar="MIB", help="Largest result, MiB.")] = 256,
) -> None:
    """Order a run of a script on GPUs; returns at once unless told to wait."""
    longest_s = None if timeout is None else duration_seconds(timeout)
    job = act.client.submit(
        file,
        gpu,
        count if count is not None else (1 if gpu else 0),
        time,
        name=name,
        image=image,
        command=_words(run),
        args=args or (),
        inputs=inputs or (),
        env=_pairs(env or []),
        max_price=max_price,
        secured=not unsecured,
        auto_deposit=auto_deposit,
        gpu_memory_mib=gpu_memory,
        cpu_milli=cpu,
        memory_mib=memory,
        disk_mib=disk,
        max_output_mib=max_output,
    )
    act.out.say(
        f"Submitted {job.name}: at most {job.max_charge} "
        f"({price(job.price_per_gpu_hour)} per GPU-hour)."
    )
    for problem in job.not_sealed_to:
        act.out.say(f"Warning: no input key was sealed: {problem}.")
    if to is not None:
        _fetch(act, job.id, to, accept=True, timeout_s=longest_s)
        return
    if wait:
        _wait(act, job.id, longest_s, "finished")
        return
    act.out.data(job.to_json())
    act.out.raw(f"{job.id}\n")


def list_tasks(
    act: Act,
    state: Annotated[str | None, typer.Option(help="Only this state, such as running.")] = None,
    name: Annotated[str | None, typer.Option(help="Only names that begin so.")] = None,
    limit: Annotated[int, typer.Option(help="Most to show.")] = 20,
) -> None:
    """Your tasks, newest first."""
    tasks = act.client.list_jobs(state=state, name=name, limit=limit)
    act.out.data([task.to_json() for task in tasks])
    act.out.table(
        ("TASK", "NAME", "STATE", "%", "CHARGE", "AT MOST", "ORDERED"),
        [
            (t.id, t.name, t.state.value, t.percent, amount(t.charge), t.max_charge, _when(t))
            for t in tasks
        ],
        empty="No tasks. Submit one: tallystick submit train.py --gpu gpu1 --count 4 --time 8h",
    )


def show(act: Act, task: TaskId) -> None:
    """Where a task stands."""
    status = act.client.get_job_status(task)
    act.out.data(status.to_json())
    _show(act, status)


def watch(act: Act, task: TaskId) -> None:
    """Follow a task's log until it ends, then show how it ended."""
    for entry in act.client.logs(task, follow=True):
        act.out.line(entry.to_json())
        act.out.raw(entry.text)
    _wait(act, task, None, "finished")


def logs(
    act: Act,
    task: TaskId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
) -> None:
    """What the task wrote. With --json one document a line."""
    for entry in act.client.logs(task, follow=follow):
        act.out.line(entry.to_json())
        act.out.raw(entry.text)


def wait(
    act: Act,
    task: TaskId,
    timeout: Timeout = None,
    until: Annotated[
        Literal["finished", "settled"],
        typer.Option(help="finished: there is a result; settled: it is paid too."),
    ] = "finished",
) -> None:
    """Wait until a task has a result. Exit code 1 if it ends without one, 124 on time-out."""
    _wait(act, task, None if timeout is None else duration_seconds(timeout), until)


def cancel(act: Act, task: TaskId) -> None:
    """Stop a task; what was used until then is owed."""
    status = act.client.cancel(task)
    act.out.data(status.to_json())
    act.out.say(f"Task {status.id} is {status.state.value}.")


def result(
    act: Act,
    task: TaskId,
    to: Annotated[
        str | None, typer.Option("--to", metavar="DIR", help="Directory to make for it.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept/--no-accept", help="Pay the provider at once.")
    ] = True,
    timeout: Timeout = None,
) -> None:
    """Fetch, verify and open a result. Exit code 1 when the script itself failed."""
    longest_s = None if timeout is None else duration_seconds(timeout)
    _fetch(act, task, to, accept=accept, timeout_s=longest_s)


def receipt(act: Act, task: TaskId) -> None:
    """The provider's signed receipt, verified on this machine."""
    checked = act.client.receipt(task)
    act.out.data(checked.to_json())
    _show_receipt(act, checked)


def explain(act: Act, task: TaskId) -> None:
    """Why a task is where it is, and why each provider was passed over."""
    told = act.client.explain(task)
    act.out.data(told.to_json())
    if not act.out.as_json:
        act.out.raw(told.summary + "\n")
    act.out.table(
        ("PROVIDER", "FREE", "PRICE/GPU-H", "TAKES IT", "WHY NOT"),
        [
            (
                o.provider,
                f"{o.gpus_free}/{o.gpus_total}",
                price(o.price_per_gpu_hour),
                "yes" if o.eligible else "no",
                o.detail or o.reason or o.key_problem,
            )
            for o in told.offers
        ],
        empty="No provider of this GPU class is online; see `tallystick market gpus`.",
    )


def accept(act: Act, task: TaskId) -> None:
    """Verify the receipt and accept it without fetching the result."""
    checked = act.client.accept(task)
    act.out.data(checked.to_json())
    act.out.say(f"Accepted: {checked.charge} to {checked.body.provider}.")


def reclaim(act: Act, task: TaskId) -> None:
    """Bring a locked ceiling back after the task's end, when no work was proven."""
    sent = act.client.reclaim(task)
    act.out.data(sent.to_json())
    act.out.say(f"Reclaimed in transaction {sent.tx}.")


def _wait(
    act: Act, task: str, timeout_s: int | None, until: Literal["finished", "settled"]
) -> None:
    with act.out.watching(task) as look:
        status = act.client.wait(task, timeout_s, until=until, on_status=look)
    act.out.data(status.to_json())
    _show(act, status)
    if not status.has_result:
        raise typer.Exit(exits.FAILED)
    if status.state is not JobState.SETTLED:
        act.out.say(f"Fetch it and pay the provider: tallystick task result {status.id}")


def _fetch(act: Act, task: str, to: str | None, *, accept: bool, timeout_s: int | None) -> None:
    with act.out.watching(task) as look:
        act.client.wait(task, timeout_s, on_status=look)
    fetched = act.client.result(task, to=to, accept=accept)
    act.out.data(fetched.to_json())
    _show_result(act, fetched)
    if fetched.exit_code != 0:
        raise typer.Exit(exits.FAILED)


def _show(act: Act, status: JobStatus) -> None:
    act.out.facts(
        {
            "task": status.id,
            "name": status.name,
            "state": status.state.value,
            "percent": None if status.percent is None else f"{status.percent} %",
            "eta": format_duration(status.eta_seconds) if status.eta_seconds else None,
            "message": status.message,
            "provider": status.provider,
            "GPUs": "simulated" if status.simulated else None,
            "attempts": status.attempts or None,
            "failure": status.failure,
            "charge": amount(status.charge),
            "at most": status.max_charge,
            "created in": status.created_tx,
            "settled in": status.settled_tx,
        }
    )


def _show_result(act: Act, fetched: JobResult) -> None:
    act.out.facts(
        {
            "directory": fetched.directory,
            "files": ", ".join(fetched.files),
            "exit code": fetched.exit_code,
            "charge": fetched.charge,
            "accepted": "yes" if fetched.accepted else "no",
            "receipt": fetched.receipt.digest,
        }
    )


def _show_receipt(act: Act, checked: CheckedReceipt) -> None:
    act.out.facts(
        {
            "digest": checked.digest,
            "provider": checked.body.provider,
            "signed by": checked.signed_by,
            "ran": f"{checked.seconds} s",
            "GPU time": f"{checked.gpu_seconds} GPU-s",
            "energy": None if checked.view.energy_mj is None else f"{checked.view.energy_mj} mJ",
            "charge": checked.charge,
            "GPUs": "simulated" if checked.view.simulated else None,
            "accepted": "yes" if checked.view.accepted else "no",
            "verified": "signature, order, times and price hold",
        }
    )


def _words(text: str | None) -> list[str] | None:
    if text is None:
        return None
    try:
        return shlex.split(text)
    except ValueError as problem:
        raise InvalidRequest(
            f"The command {text!r} cannot be read: {problem}.",
            next_step="Close every quote, as for a shell.",
        ) from problem


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise InvalidRequest(
                f"--env {text!r} has no value.", next_step="Write it as --env NAME=VALUE."
            )
        pairs[name] = value
    return pairs


def _when(status: JobStatus) -> str:
    moment = datetime.datetime.fromtimestamp(status.created_at_ms / 1000, datetime.UTC)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


_COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("submit", submit),
    ("list", list_tasks),
    ("show", show),
    ("watch", watch),
    ("logs", logs),
    ("wait", wait),
    ("result", result),
    ("receipt", receipt),
    ("accept", accept),
    ("cancel", cancel),
    ("reclaim", reclaim),
    ("explain", explain),
)
for _name, _function in _COMMANDS:
    command(app, _name)(_function)
