"""`tallystick market`: who offers what, at which price. Needs no key."""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.cli.command import Act, command
from tallystick.cli.output import price
from tallystick.protocol.pricing import price_per_gpu_hour

app = typer.Typer(name="market", help="Providers, GPUs and prices.", no_args_is_help=True)


@command(app, "offers")
def offers(
    act: Act,
    gpu: Annotated[str, typer.Option(help="GPU class; none: CPU only.")] = "",
    count: Annotated[int, typer.Option(help="GPUs at once.")] = 1,
    time: Annotated[str, typer.Option(metavar="TIME", help="Longest run.")] = "1h",
    max_price: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="Most to pay per GPU and hour.")
    ] = None,
) -> None:
    """Who would take such a task now, best first, and why the others would not."""
    found = act.client.offers(gpu, count, time, max_price=max_price)
    act.out.data([offer.to_json() for offer in found])
    act.out.table(
        ("PROVIDER", "CLASS", "FREE", "PRICE/GPU-H", "RUNTIME", "TAKES IT", "WHY NOT"),
        [
            (
                o.provider,
                o.gpu_class,
                f"{o.gpus_free}/{o.gpus_total}",
                price(o.price_per_gpu_hour),
                o.runtime + (" (simulated)" if o.simulated else ""),
                "yes" if o.eligible else "no",
                o.detail or o.reason,
            )
            for o in found
        ],
        empty="Nobody offers that class now; `tallystick market gpus` shows what there is.",
    )


@command(app, "providers")
def providers(act: Act) -> None:
    """Everybody who serves."""
    found = act.client.providers()
    decimals, symbol = _token(act)
    act.out.data(found)
    act.out.table(
        ("PROVIDER", "ONLINE", "GPUS", "RUNTIME", "STAKE", "TASKS PAID"),
        [
            (
                p.address,
                "yes" if p.online else "no",
                len(p.gpus),
                (p.runtime or "-") + (" (simulated)" if p.simulated else ""),
                f"{p.stake / 10**decimals:g} {symbol}",
                p.tasks_settled,
            )
            for p in found
        ],
        empty="No providers yet.",
    )


@command(app, "gpus")
def gpus(act: Act) -> None:
    """Every card on the market."""
    found = act.client.gpus()
    decimals, _ = _token(act)
    act.out.data(found)
    act.out.table(
        ("GPU", "CLASS", "MODEL", "MEMORY", "PRICE/GPU-H", "STATE", "PROVIDER"),
        [
            (
                g.gpu.gpu_id,
                g.gpu.gpu_class,
                g.gpu.model + (" (simulated)" if g.gpu.simulated else ""),
                f"{g.gpu.memory_mib} MiB",
                price(price_per_gpu_hour(g.rate_per_gpu_second, decimals)),
                ("busy" if g.busy else "free") if g.online else "offline",
                g.provider,
            )
            for g in found
        ],
        empty="No GPUs on the market yet.",
    )


def _token(act: Act) -> tuple[int, str]:
    deployment = act.client.deployment()
    return deployment.token_decimals, deployment.token_symbol
