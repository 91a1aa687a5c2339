"""Settings: defaults, each bad value named by its variable, keys only from files that are ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick_backend.__main__ import setting_rows
from tallystick_backend.settings import PREFIX, Settings, SettingsError
from tests.support.anvil import DISPATCHER

README = Path(__file__).parents[2] / "backend" / "README.md"


def test_the_defaults_serve() -> None:
    assert Settings.from_environment({"PATH": "/bin", f"{PREFIX}PORT": ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "many"),
        ("PORT", "70000"),
        ("DISPATCHER_BPS", "3001"),
        ("LEASE_SECONDS", "0"),
        ("LEASE_SECONDS", "1.5"),
        ("PUBLIC_URL", "backend.test"),
        ("PUBLIC_URL", "ftp://backend.test"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://a.test,https://b.test/path"),
        ("LOGIN_LIMIT", "often"),
        ("LOG_LEVEL", "loud"),
        ("ALLOW_PROCESS_RUNTIME", "perhaps"),
        ("MISSPELT", "1"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=PREFIX + name) as raised:
        Settings.from_environment({PREFIX + name: value})
    assert raised.value.next_step


def test_origins_are_separated_by_commas() -> None:
    settings = Settings.from_environment(
        {f"{PREFIX}CORS_ORIGINS": "https://a.test, https://b.test"}
    )
    assert settings.cors_origins == ("https://a.test", "https://b.test")


def test_a_secret_is_never_shown() -> None:
    settings = Settings.from_environment({f"{PREFIX}DISPATCHER_KEY": DISPATCHER.key})
    assert DISPATCHER.key not in repr(settings)
    assert settings.read_dispatcher_key() == DISPATCHER.key


def test_a_key_file_must_be_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(DISPATCHER.key + "\n")
    path.chmod(0o644)
    settings = Settings(dispatcher_key_file=path)
    with pytest.raises(SettingsError, match="0644"):
        settings.read_dispatcher_key()
    path.chmod(0o600)
    assert settings.read_dispatcher_key() == DISPATCHER.key


@pytest.mark.parametrize("text", ["", "0x", "0x" + "0" * 64, DISPATCHER.key[:-1], "zz" * 32])
def test_refuses_a_key_without_showing_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        Settings(dispatcher_key_file=path).read_dispatcher_key()
    assert "DISPATCHER_KEY_FILE" in str(raised.value)
    assert not text or text not in str(raised.value) or len(text) < 4


def test_a_limit_that_is_none_is_not_repeated() -> None:
    """Case 136: whoever mixes two variables up may have put a secret there."""
    with pytest.raises(SettingsError, match="must be a limit such as") as refused:
        Settings.from_environment({f"{PREFIX}LOGIN_LIMIT": "hunter2-the-secret"})
    assert "hunter2" not in str(refused.value)


def test_a_missing_key_is_a_sentence() -> None:
    with pytest.raises(SettingsError, match="DISPATCHER_KEY_FILE is not set"):
        Settings().read_dispatcher_key()
    with pytest.raises(SettingsError, match="cannot be read"):
        Settings(dispatcher_key_file=Path("/nowhere/key")).read_dispatcher_key()


def test_every_setting_is_explained_and_in_the_readme() -> None:
    readme = " ".join(README.read_text(encoding="utf-8").split())
    for row in setting_rows():
        assert row["help"], row["variable"]
        assert row["variable"].removeprefix(PREFIX) in readme
        assert " ".join(row["help"].split()) in readme, row["variable"]
