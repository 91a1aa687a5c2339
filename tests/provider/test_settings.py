"""from_environment
├── reads every documented variable
├── names each missing, wrong or unknown variable
└── refuses prices that are not whole numbers
"""

from __future__ import annotations

import pytest

from tallystick_provider.errors import SettingsError
from tallystick_provider.settings import PREFIX, from_environment

GOOD = {
    f"{PREFIX}ADDRESS": "0x" + "11" * 20,
    f"{PREFIX}KEY_FILE": "/keys/operator",
    f"{PREFIX}RATE": "gpu1=138888888888888,=0",
    "PATH": "/bin",
}


def test_reads_prices_by_class_and_ignores_other_variables() -> None:
    settings = from_environment(GOOD)
    assert settings.rate == {"gpu1": 138888888888888, "": 0}
    assert settings.runtime == "docker"


def test_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        from_environment(GOOD).runtime = "process"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"ADDRESS": ""}, "ADDRESS is not set", id="missing"),
        pytest.param({"ADDRESS": "0x12"}, "ADDRESS: String should match", id="no address"),
        pytest.param({"RATE": "gpu1"}, "has no '='", id="price without class"),
        pytest.param({"RATE": "gpu1=0.5"}, "0.5 is not a whole number", id="price with a fraction"),
        pytest.param({"RATE": "gpu1=many"}, "'many' is not a number", id="price in words"),
        pytest.param({"RATE": "gpu1=-1"}, "greater than or equal to 0", id="negative price"),
        pytest.param({"RATE": "gpu1=NaN"}, "not a whole number", id="not a number"),
        pytest.param({"GPUS": "simulated:2"}, "simulated:<count>x", id="half a simulated set"),
        pytest.param({"RUNTIME": "podman"}, "'docker' or 'process'", id="unknown runtime"),
        pytest.param({"MEMROY_MIB": "12"}, "MEMROY_MIB is not a setting", id="misspelt"),
        pytest.param({"CPU_MILLI": "lots"}, "valid integer", id="not a figure"),
    ],
)
def test_names_the_variable_and_what_is_wrong(change: dict[str, str], message: str) -> None:
    given = {**GOOD, **{PREFIX + name: value for name, value in change.items()}}
    with pytest.raises(SettingsError) as refused:
        from_environment(given)
    assert message in str(refused.value)
    assert PREFIX + next(iter(change)) in str(refused.value)
