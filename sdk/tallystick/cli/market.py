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


@command(app, "search")
def search(
    act: Act,
    where: Annotated[
        str,
        typer.Argument(
            metavar="WHERE", help="As in: 'vram>=24 gpu in (rtx3090, rtx4090) price<0.5'."
        ),
    ] = "",
    order: Annotated[
        str, typer.Option(help="price, vram, free or cards; with - the largest first.")
    ] = "price",
    limit: Annotated[int, typer.Option(min=1, max=200, help="Most to show.")] = 50,
) -> None:
    """Cards on offer that fit; all conditions hold together.

    Texts gpu (class), model, provider, runtime: = != ~ (has in it) in, not in. Numbers vram (GiB),
    price (tokens for a GPU and hour), cards, free: = != < <= > >= in, not in. Also: simulated, not
    simulated.
    """
    found = act.client.search_cards(where, order=order, limit=limit)
    decimals, _ = _token(act)
    act.out.data(found)
    act.out.table(
        ("CLASS", "MODEL", "VRAM", "FREE", "PRICE/GPU-H", "RUNTIME", "PROVIDER"),
        [
            (
                offer.gpu_class,
                offer.model + (" (simulated)" if offer.simulated else ""),
                f"{offer.memory_mib / 1024:.0f} GiB",
                f"{offer.cards_free}/{offer.cards}",
                price(price_per_gpu_hour(offer.rate_per_gpu_second, decimals)),
                offer.runtime,
                offer.provider,
            )
            for offer in found.items
        ],
        empty="No card on offer fits that; `tallystick market gpus` shows what there is.",
    )


@command(app, "history")
def history(
    act: Act,
    days: Annotated[int, typer.Option(min=1, max=400, help="Until now.")] = 30,
) -> None:
    """What settled tasks paid for a GPU and hour, day by day and class by class."""
    found = act.client.price_history(days)
    decimals, _ = _token(act)

    def hourly(rate: int) -> str:
        return price(price_per_gpu_hour(rate, decimals))

    act.out.data(found)
    act.out.table(
        ("DAY", "CLASS", "TASKS", "GPU-HOURS", "LOWEST", "MIDDLE", "HIGHEST"),
        [
            (
                row.day,
                row.gpu_class,
                row.tasks,
                f"{row.gpu_ms / 3_600_000:.2f}",
                hourly(row.min_rate),
                hourly(row.median_rate),
                hourly(row.max_rate),
            )
            for row in found.items
        ],
        empty="No task was settled in that time.",
    )


def _token(act: Act) -> tuple[int, str]:
    deployment = act.client.deployment()
    return deployment.token_decimals, deployment.token_symbol
