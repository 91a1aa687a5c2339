"""Settings: argument before environment before context before default; secrets never shown."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tallystick import AsyncGPUClient, ConfigurationError, load_config
from tallystick.config import (
    ConfigFile,
    read_config_file,
    shown,
    using_context,
    with_context,
    with_setting,
    without_context,
    write_config_file,
)

KEY = "0x" + "ab" * 32


def stored() -> ConfigFile:
    file = with_setting(read_config_file(), "local", "url", "http://stored:1/")
    return with_setting(file, "local", "rpc_url", "http://rpc:2")


def test_the_first_hit_wins() -> None:
    file = stored()
    assert load_config(environment={}, file=read_config_file()).url == "http://127.0.0.1:8000"
    assert load_config(environment={}, file=file).url == "http://stored:1"
    environment = {"TALLYSTICK_URL": "https://environment/api"}
    config = load_config(environment=environment, file=file)
    assert (config.url, config.rpc_url) == ("https://environment/api", "http://rpc:2")
    assert load_config(environment=environment, file=file, url="http://given").url == "http://given"


def test_the_file_survives_writing_and_reading() -> None:
    file = with_setting(stored(), "other", "image", 'quote " back \\ slash \x07')
    write_config_file(file)
    assert read_config_file() == file
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_contexts() -> None:
    file = with_context(stored(), "devnet", {"url": "http://dev:3", "chain_id": "31337"})
    assert load_config(environment={}, file=file).url == "http://dev:3"
    assert load_config(environment={"TALLYSTICK_CONTEXT": "local"}, file=file).context == "local"
    assert load_config(environment={}, file=using_context(file, "local")).url == "http://stored:1"
    assert without_context(file, "devnet").current is None
    for act in (using_context, without_context):
        with pytest.raises(ConfigurationError, match="no context called 'x'"):
            act(file, "x")


def test_a_key_file_has_to_be_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    path.chmod(0o644)
    environment = {"TALLYSTICK_KEY_FILE": str(path)}
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_config(environment=environment)
    path.chmod(0o600)
    assert load_config(environment=environment).private_key == KEY


@pytest.mark.parametrize(
    "environment",
    [
        {"TALLYSTICK_URL": "market"},
        {"TALLYSTICK_URL": "ftp://market"},
        {"TALLYSTICK_URL": "http://a b"},
        {"TALLYSTICK_RPC_URL": "ws//x"},
        {"TALLYSTICK_CHAIN_ID": "one"},
        {"TALLYSTICK_CHAIN_ID": "-1"},
        {"TALLYSTICK_CONTEXT": "nowhere"},
        {"TALLYSTICK_KEY_FILE": "/nowhere/key"},
        {"TALLYSTICK_PRIVATE_KEY": "0x12"},
        {"TALLYSTICK_PRIVATE_KEY": "0x" + "00" * 32},
        {"TALLYSTICK_PRIVATE_KEY": "hunter2" * 9},
    ],
    ids=lambda env: str(env),
)
def test_a_setting_that_cannot_be_is_named_with_its_cure(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_config(environment=environment)
    assert caught.value.next_step
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["url = [", "contexts = 5", "\xff"])
def test_a_broken_file_is_named(text: str) -> None:
    path = read_config_file().path
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"config\.toml"):
        load_config()


@pytest.mark.parametrize(
    ("key", "value"), [("private_key", KEY), ("nonsense", "1"), ("url", "x"), ("chain_id", "x")]
)
def test_what_is_no_setting_is_not_written(key: str, value: str) -> None:
    with pytest.raises(ConfigurationError):
        with_setting(read_config_file(), "local", key, value)
    with pytest.raises(ConfigurationError, match="name of a context"):
        with_setting(read_config_file(), "a/b", "url", "http://x")


def test_secrets_are_never_shown() -> None:
    config = load_config(environment={"TALLYSTICK_PRIVATE_KEY": KEY, "TALLYSTICK_API_KEY": "tk_s"})
    for text in (
        repr(config),
        str(shown(config)),
        repr(AsyncGPUClient(config=config)._session.wallet),
    ):
        assert "abab" not in text
        assert "tk_s" not in text
    assert shown(config)["private_key"] == "set"
