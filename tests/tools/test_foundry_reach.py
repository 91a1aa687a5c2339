"""What the report on the laws lets pass."""

from __future__ import annotations

import io

import pytest

from tools import foundry_reach

VERBS = {"escrow_deposit", "escrow_withdraw", "escrow_unlock"}


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ({"escrow_deposit": (100, 10), "escrow_withdraw": (100, 80), "refused_orders": (9, 9)}, ""),
        ({"escrow_deposit": (100, 10)}, "escrow_withdraw is reached by no act"),
        (
            {"escrow_deposit": (100, 10), "escrow_withdraw": (100, 81)},
            "escrow_withdraw got through in 19.0 % of its calls only",
        ),
        (
            {"escrow_deposit": (9, 0), "escrow_withdraw": (9, 0), "refused_orders": (9, 8)},
            "refused_orders got through",
        ),
    ],
)
def test_each_verb_is_reached_and_gets_through_in_a_fifth(
    rows: dict[str, tuple[int, int]],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = _main(
        _table(rows) + "[PASS] invariant_L1() (runs: 2, calls: 300, reverts: 1)\n", monkeypatch
    )

    told = capsys.readouterr().out
    assert code == (1 if complaint else 0)
    assert ("reach:" in told) == bool(complaint)
    assert complaint in told
    assert "PASS invariant_L1: 300 calls" in told


def test_a_broken_law_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"escrow_deposit": (100, 10), "escrow_withdraw": (100, 10)}

    assert _main(
        _table(rows) + "[FAIL: L1] invariant_L1() (runs: 2, calls: 3, reverts: 1)\n", monkeypatch
    )


def test_no_calls_at_all_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _main("error: nothing compiled\n", monkeypatch)


def _main(text: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(foundry_reach, "_verbs", lambda: VERBS)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    return foundry_reach.main()


def _table(rows: dict[str, tuple[int, int]]) -> str:
    return "".join(
        f"| Handler | {name} | {calls} | {reverts} | 0 |\n"
        for name, (calls, reverts) in rows.items()
    )
