"""Bodies take what they say and nothing else: no float comes near money (security case 49)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from tallystick.protocol import wire
from tallystick.protocol.errors import WireError
from tallystick.protocol.wire import UINT128_MAX

DIGEST = "0x" + "ab" * 32
ADDRESS = "0x" + "11" * 20


def acceptance(total: str) -> str:
    """JSON text with `total` put in as it is."""
    return f'{{"task_id": "{DIGEST}", "total": {total}, "receipt": "{DIGEST}"}}'


class TestAmounts:
    @pytest.mark.parametrize(
        ("text", "amount"),
        [('"0"', 0), ('"1500"', 1500), ("1500", 1500), (f'"{UINT128_MAX}"', UINT128_MAX)],
    )
    def test_whole_numbers_are_taken(self, text: str, amount: int) -> None:
        assert wire.parse(wire.AcceptanceBody, acceptance(text)).total == amount

    @pytest.mark.parametrize(
        "text",
        [
            *("1e18", "0.1", "1.0", "-1", "-0.0", "true", "false", "null", "NaN", "Infinity"),
            *('"1e18"', '"0.1"', '"0x"', '"0x10"', '"-1"', '"+1"', '" 1"', '"1 "', '""', '"1_0"'),
            *('"١"', '"NaN"', "[]", "{}", "[1]", str(2**128), f'"{2**128}"', f'"{2**256}"'),
            '"' + "9" * 5000 + '"',
        ],
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(WireError):
            wire.parse(wire.AcceptanceBody, acceptance(text))
        try:
            content = json.loads(acceptance(text))
        except ValueError:
            return
        # The same through the door FastAPI uses.
        with pytest.raises(ValidationError):
            wire.AcceptanceBody.model_validate(content)

    def test_travel_as_decimal_strings(self) -> None:
        body = wire.AcceptanceBody(task_id=DIGEST, total=UINT128_MAX, receipt=DIGEST)
        assert json.loads(body.model_dump_json())["total"] == str(UINT128_MAX)


PARTIES = {"payer": ADDRESS, "signer": ADDRESS, "provider": ADDRESS}


class TestSalts:
    """96 bits, beyond what JSON readers keep exact: decimal strings, as amounts."""

    def test_travel_as_decimal_strings(self) -> None:
        body = wire.ChannelBody.model_validate({**PARTIES, "salt": str(2**96 - 1)})
        assert json.loads(body.model_dump_json())["salt"] == str(2**96 - 1)

    @pytest.mark.parametrize("salt", [-1, 1.0, "0x1", "", True, str(2**96), 2**96, None])
    def test_anything_else_is_refused(self, salt: Any) -> None:
        with pytest.raises(ValidationError):
            wire.ChannelBody.model_validate({**PARTIES, "salt": salt})


BEAT = {"task_id": DIGEST, "fence": 1, "stage": "running"}


class TestCounts:
    @pytest.mark.parametrize("value", [-1, 1.0, 1.5, "1", True, None, 2**63, float("nan")])
    def test_are_whole_numbers_and_no_text(self, value: Any) -> None:
        with pytest.raises(ValidationError):
            wire.LeaseBeat.model_validate({**BEAT, "gpu_ms": value})

    @pytest.mark.parametrize("percent", [-1, 101, 50.0, "50"])
    def test_percents_stay_within_a_hundred(self, percent: Any) -> None:
        with pytest.raises(ValidationError):
            wire.LeaseBeat.model_validate({**BEAT, "percent": percent})


class TestParse:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "null",
            "[]",
            "{",
            acceptance('"1"') + "x",
            acceptance('"1", "total": "2"'),
            acceptance('"1", "extra": 1'),
            "[" * 100_000,
        ],
        ids=["empty", "null", "list", "cut", "more", "twice", "unknown", "deep"],
    )
    def test_refuses_what_is_not_one_well_formed_body(self, text: str) -> None:
        with pytest.raises(WireError):
            wire.parse(wire.AcceptanceBody, text)

    def test_names_the_field_at_fault(self) -> None:
        with pytest.raises(WireError, match=r"AcceptanceBody: total: .*decimal string"):
            wire.parse(wire.AcceptanceBody, acceptance("1.5"))

    def test_takes_bytes(self) -> None:
        assert wire.parse(wire.AcceptanceBody, acceptance('"1"').encode()).total == 1


class TestHex:
    @pytest.mark.parametrize(
        "digest", ["", "0x", DIGEST[:-1], DIGEST + "0", DIGEST.upper(), DIGEST + "\n", "ab" * 33]
    )
    def test_digests_have_one_form(self, digest: str) -> None:
        with pytest.raises(ValidationError):
            wire.AcceptanceBody(task_id=digest, total=1, receipt=DIGEST)

    @pytest.mark.parametrize("signature", ["0x", "0x" + "00" * 63, "0x" + "0" * 129, "00" * 65])
    def test_signatures_have_at_least_64_whole_bytes(self, signature: str) -> None:
        with pytest.raises(ValidationError):
            wire.AcceptanceNotice(
                acceptance=wire.AcceptanceBody(task_id=DIGEST, total=1, receipt=DIGEST),
                signature=signature,
            )


def test_bodies_cannot_be_changed() -> None:
    body = wire.AcceptanceBody(task_id=DIGEST, total=1, receipt=DIGEST)
    with pytest.raises(ValidationError, match="frozen"):
        body.total = 2  # type: ignore[misc]


def test_every_body_refuses_unknown_fields() -> None:
    bodies = [
        kind
        for kind in vars(wire).values()
        if isinstance(kind, type) and issubclass(kind, wire.WireModel)
    ]
    assert len(bodies) > 40
    assert all(kind.model_config.get("extra") == "forbid" for kind in bodies)
