"""One GPU task goes all the way round, then survives the death of its provider.

    make demo                    for people
    make demo ARGS=--json        for programs: one JSON document on standard output

Everything is real and local: a chain (anvil) with the contracts deployed by the Brownie scripts, a
message bus (NATS), the backend, and two providers that staked through the scripts. Tasks run in
Docker containers where an engine answers, else as plain processes. The GPUs are simulated, and say
so. Ctrl-C cleans up as well.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tallystick import GPUClient, Job, JobResult, JobStatus, TallystickError
from tallystick.devnet import LocalMarket, MarketPlan, people
from tallystick.devnet.ledger import Ledger

SCRIPT = Path(__file__).parent / "train_digits.py"
TASK_TIMEOUT_S = 240.0


def main() -> int:
    options = parse_arguments()
    console = people_console(quiet=options.json)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="tallystick-demo-") as scratch:
        plan = MarketPlan(Path(scratch) / "market", runtime=options.runtime)
        results = results_directory(options.results)
        try:
            with market_up(plan, console) as market:
                told = tell_the_story(market, results, console)
        except KeyboardInterrupt:
            console.print("\n[yellow]stopped; everything that was started has been ended[/]")
            return 130
        except TallystickError as problem:
            Console(stderr=True).print(f"[red]{problem.sentence}[/]\n{problem.next_step}")
            return 1
    if options.json:
        print(json.dumps(told, indent=2))
    return 0 if told["index_agrees"] and told["failover"]["paid_once"] else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the whole market once on this machine.")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    parser.add_argument(
        "--runtime", choices=("docker", "process"), help="default: docker if it runs"
    )
    parser.add_argument("--results", help="where results are saved (default: build/demo)")
    return parser.parse_args()


def results_directory(given: str | None) -> Path:
    """Where the person wants it; else a directory of our own, without what an earlier run left."""
    if given:
        return Path(given)
    ours = Path("build/demo")
    shutil.rmtree(ours, ignore_errors=True)
    return ours


@contextmanager
def market_up(plan: MarketPlan, console: Console) -> Iterator[LocalMarket]:
    console.rule("[bold]1. A market on this machine")
    market = LocalMarket(plan, report=lambda step, detail: say(console, step, detail))
    with market:
        yield market
        console.print("[dim]ending everything that was started[/]")


def tell_the_story(market: LocalMarket, results: Path, console: Console) -> dict[str, Any]:
    ledger = Ledger(market)
    with GPUClient(**market.client_settings()) as client:
        before = ledger.balances()
        console.rule("[bold]2. A training task goes round")
        deposited = client.deposit("50")
        say(console, "deposited", f"50 TALLY into the escrow, in transaction {deposited.tx}")
        first = run_task(client, market, results / "first", console)
        ledger.wait_until_indexed(first.id)
        show_result(client, ledger, first.id, results / "first", console)
        between = ledger.balances()
        show_balances(before, between, ledger, console)
        transactions = ledger.transactions()
        show_transactions(transactions, console)

        console.rule("[bold]3. A provider dies in the middle of the next one")
        failover = survive_a_kill(client, market, ledger, results / "second", console)
        agrees = ledger.disagreements() == []
        say(
            console,
            "index and chain",
            "agree on every account and task" if agrees else f"differ: {ledger.disagreements()}",
        )
        return {
            "runtime": market.runtime,
            "simulated_gpus": True,
            "first": first.to_json() | {"receipt": client.receipt(first.id).to_json()},
            "balances_before": before,
            "balances_after": ledger.balances(),
            "transactions": [transaction.to_json() for transaction in ledger.transactions()],
            "failover": failover,
            "index_agrees": agrees,
        }


def run_task(client: GPUClient, market: LocalMarket, to: Path, console: Console) -> Job:
    """Submits the training script as the README shows it, and waits with a progress bar."""
    job = client.submit(str(SCRIPT), "gpu1", 4, "8h", name="train digits", image=market.image)
    say(console, "submitted", f"task {job.id}")
    say(console, "locked", f"at most {job.max_charge}, in transaction {job.created_tx}")
    follow(client, job, console, until=lambda status: status.has_result)
    show_accuracy(fetch_result(client, job, to), console)
    follow(client, job, console, until=lambda status: status.is_over)
    return job


def fetch_result(client: GPUClient, job: Job, to: Path) -> JobResult:
    """Verifies, accepts and unpacks; a task that failed shows what it wrote last."""
    result = client.result(job, to=to)
    if result.exit_code != 0:
        said = "".join(entry.text for entry in client.logs(job))
        raise TallystickError(
            f"The task ended with exit status {result.exit_code}.", next_step=said[-2000:]
        )
    return result


def survive_a_kill(
    client: GPUClient, market: LocalMarket, ledger: Ledger, to: Path, console: Console
) -> dict[str, Any]:
    job = client.submit(
        str(SCRIPT),
        "gpu1",
        4,
        "1h",
        name="train digits, with a power cut",
        image=market.image,
        env={"EPOCHS": "40", "SECONDS_PER_EPOCH": "0.25"},
    )
    say(console, "submitted", f"task {job.id}")
    running = follow(
        client, job, console, until=lambda now: now.state == "running" and (now.percent or 0) >= 20
    )
    victim = next(
        number for number in (1, 2) if people.provider(number).address == running.provider
    )
    market.services[f"provider-{victim}"].kill()
    say(console, "killed", f"the agent of provider {victim} (SIGKILL) at {running.percent} %")
    done = follow(client, job, console, until=lambda status: status.has_result)
    show_accuracy(fetch_result(client, job, to), console)
    done = follow(client, job, console, until=lambda status: status.is_over)
    ledger.wait_until_indexed(job.id)
    payments = ledger.payments(job.id)
    say(
        console,
        "finished on",
        f"{done.provider} under fence {done.fence}, after fence {running.fence} was lost",
    )
    say(console, "paid", f"{len(payments)} time: {done.charge}")
    market.start_provider(victim)
    say(console, "back", f"provider {victim} restarted, and removed the work it had lost")
    return {
        "task_id": job.id,
        "killed_provider": running.provider,
        "killed_at_percent": running.percent,
        "finished_by": done.provider,
        "fence": done.fence,
        "charge": done.charge.to_json() if done.charge else None,
        "payments": payments,
        "paid_once": len(payments) == 1 and payments[0]["provider"] == done.provider,
    }


# --- drawing ----------------------------------------------------------------------------------


def people_console(*, quiet: bool) -> Console:
    """Everything for people goes to standard error; wide enough for hashes when not a terminal."""
    console = Console(stderr=True, quiet=quiet, highlight=False)
    return console if console.is_terminal else Console(stderr=True, quiet=quiet, width=132)


def new_table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def follow(client: GPUClient, job: Job, console: Console, *, until: Any) -> JobStatus:
    """Draws the task's progress until `until(status)` is true."""
    deadline = time.monotonic() + TASK_TIMEOUT_S
    with Progress(
        TextColumn("  {task.description:<12}"),
        BarColumn(bar_width=32),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[message]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bars:
        bar = bars.add_task("queued", total=100, message="")
        while True:
            status = client.get_job_status(job.id)
            bars.update(
                bar,
                description=status.state.value,
                completed=status.percent or 0,
                message=status.message,
            )
            if until(status):
                return status
            if status.is_over or time.monotonic() > deadline:
                raise TallystickError(
                    f"The task is {status.state} ({status.failure or status.message}).",
                    next_step="`tallystick task explain` says why; the logs are in the market.",
                )
            time.sleep(0.15)


def say(console: Console, step: str, detail: str) -> None:
    console.print(f"  [bold cyan]{step:<16}[/] {detail}", highlight=False, soft_wrap=True)


def show_accuracy(result: JobResult, console: Console) -> None:
    metrics = json.loads((result.outputs / "metrics.json").read_text())
    say(
        console,
        "result",
        f"accuracy {metrics['accuracy']:.4f} on {metrics['test_images']} unseen images, "
        f"{metrics['epochs']} epochs",
    )
    say(console, "saved in", f"{result.directory.resolve()} ({', '.join(result.files)})")


def show_result(
    client: GPUClient, ledger: Ledger, task_id: str, to: Path, console: Console
) -> None:
    receipt = client.receipt(task_id)
    say(console, "receipt", receipt.digest)
    table = new_table(
        "The charge, line by line (TALLY)",
        *("line", "quantity", "price", "amount"),
        right=("quantity", "amount"),
    )
    for line in ledger.charge_lines(task_id, receipt):
        table.add_row(line.label, line.quantity, line.price, line.amount)
    console.print(table)
    energy = receipt.view.energy_mj
    say(
        console,
        "metered",
        f"{receipt.seconds} s wall time, {receipt.gpu_seconds} GPU-seconds, "
        + (f"{energy / 1000:.1f} J" if energy is not None else "energy not available")
        + (" (simulated GPUs)" if receipt.view.simulated else ""),
    )


def show_balances(
    before: dict[str, dict[str, int]],
    after: dict[str, dict[str, int]],
    ledger: Ledger,
    console: Console,
) -> None:
    table = new_table(
        "Balances (TALLY)",
        *("who", "where", "before", "after", "change"),
        right=("before", "after", "change"),
    )
    for who, places in after.items():
        for place, units in places.items():
            change = units - before[who][place]
            if change:
                table.add_row(
                    who,
                    place,
                    ledger.money(before[who][place]),
                    ledger.money(units),
                    f"{'+' if change > 0 else '-'}{ledger.money(abs(change))}",
                )
    console.print(table)


def show_transactions(transactions: list[Any], console: Console) -> None:
    table = new_table(
        "Transactions", *("block", "act", "from", "gas", "transaction"), right=("block", "gas")
    )
    for transaction in transactions:
        table.add_row(
            str(transaction.block),
            transaction.act,
            transaction.sender,
            f"{transaction.gas_used:,}",
            transaction.hash,
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
