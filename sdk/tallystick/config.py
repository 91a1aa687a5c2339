"""Where the SDK and the command line find the market, the chain and your key.

Each field is read, first hit wins, from: the argument to `GPUClient`, the environment variable, the
chosen context in `~/.config/tallystick/config.toml`, the default.

    url          TALLYSTICK_URL            backend, default http://127.0.0.1:8000
    rpc_url      TALLYSTICK_RPC_URL        chain endpoint: to deposit, withdraw and secure tasks
    private_key  TALLYSTICK_PRIVATE_KEY    the consumer's wallet key as hex ...
    key_file     TALLYSTICK_KEY_FILE       ... or a file with it, readable by you alone (mode 0600)
    own_key      TALLYSTICK_OWN_KEY        a session key that you keep: you sign for each call ...
    own_key_file TALLYSTICK_OWN_KEY_FILE   ... or a file with it (mode 0600); notes lie beside it
    api_key      TALLYSTICK_API_KEY        instead of a wallet, for reading
    escrow       TALLYSTICK_ESCROW         escrow address to insist on; another one is refused
    chain_id     TALLYSTICK_CHAIN_ID       chain to insist on; another one is refused
    image        TALLYSTICK_IMAGE          image for `submit` when none is named
    deployment   TALLYSTICK_DEPLOYMENT     the contracts' file, for `app deploy` and `receipt
                                           verify` on a chain whose deployment this package does
                                           not know
    context      TALLYSTICK_CONTEXT        name of the context to read

A context file looks like this, written by `tallystick config set` and `tallystick context use`:

    current = "local"

    [contexts.local]
    url = "http://127.0.0.1:8000"
    rpc_url = "http://127.0.0.1:8545"
    key_file = "~/.config/tallystick/local.key"

A private key itself is never written into the file: name a key file.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import platformdirs

from tallystick.errors import ConfigurationError

DEFAULT_URL = "http://127.0.0.1:8000"
SETTABLE = (
    "url",
    "rpc_url",
    "key_file",
    "own_key_file",
    "api_key",
    "escrow",
    "chain_id",
    "image",
    "deployment",
)
SECRET = ("private_key", "own_key", "api_key")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a client needs to know before it speaks to anybody."""

    url: str = DEFAULT_URL
    rpc_url: str | None = None
    private_key: str | None = field(default=None, repr=False)
    own_key: str | None = field(default=None, repr=False)
    own_key_file: str | None = None
    api_key: str | None = field(default=None, repr=False)
    escrow: str | None = None
    chain_id: int | None = None
    image: str | None = None
    deployment: str | None = None
    context: str | None = None
    url_given: bool = False
    """The backend was named, and is not only the default."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The parsed context file: which context is current, and the settings of each."""

    path: Path
    current: str | None = None
    contexts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def load_config(
    *,
    environment: Mapping[str, str] | None = None,
    context: str | None = None,
    file: ConfigFile | None = None,
    **given: object,
) -> Config:
    """Joins arguments, environment and context file; raises ConfigurationError with the fix."""
    environment = os.environ if environment is None else environment
    file = read_config_file(environment=environment) if file is None else file
    name = context or environment.get("TALLYSTICK_CONTEXT") or file.current
    stored = _context(file, name) if name else {}

    def setting(key: str) -> str | None:
        value = given.get(key)
        if value is None:
            value = environment.get(f"TALLYSTICK_{key.upper()}") or stored.get(key)
        return None if value in (None, "") else str(value)

    return Config(
        url=_checked_url("url", setting("url") or DEFAULT_URL),
        rpc_url=_optional_url("rpc_url", setting("rpc_url")),
        private_key=_private_key(setting("private_key"), setting("key_file")),
        own_key=_private_key(setting("own_key"), setting("own_key_file")),
        own_key_file=None if setting("own_key") else setting("own_key_file"),
        api_key=setting("api_key"),
        escrow=setting("escrow"),
        chain_id=_chain_id(setting("chain_id")),
        image=setting("image"),
        deployment=setting("deployment"),
        context=name,
        url_given=setting("url") is not None,
    )


def default_config_path(environment: Mapping[str, str] | None = None) -> Path:
    environment = os.environ if environment is None else environment
    if chosen := environment.get("TALLYSTICK_CONFIG"):
        return Path(chosen).expanduser()
    return Path(platformdirs.user_config_dir("tallystick")) / "config.toml"


def read_config_file(
    path: Path | None = None, *, environment: Mapping[str, str] | None = None
) -> ConfigFile:
    """A missing file is an empty one; a broken one is an error that names the line."""
    path = path or default_config_path(environment)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ConfigFile(path)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as problem:
        raise ConfigurationError(
            f"The configuration file {path} cannot be read: {problem}.",
            next_step="Correct it, or move it away to start afresh.",
        ) from problem
    contexts = document.get("contexts", {})
    if not isinstance(contexts, dict) or not all(isinstance(c, dict) for c in contexts.values()):
        raise ConfigurationError(
            f"The configuration file {path} has no tables under [contexts.NAME].",
            next_step="Write settings as [contexts.NAME] tables; `tallystick config set` does it.",
        )
    current = document.get("current")
    return ConfigFile(
        path,
        current if isinstance(current, str) else None,
        {n: {str(k): str(v) for k, v in values.items()} for n, values in contexts.items()},
    )


def write_config_file(file: ConfigFile) -> None:
    """Replaces the file in one step, readable by its owner alone."""
    lines = [] if file.current is None else [f"current = {_toml_text(file.current)}", ""]
    for name, values in sorted(file.contexts.items()):
        lines.append(f"[contexts.{_toml_text(name)}]")
        lines += [f"{key} = {_toml_text(value)}" for key, value in sorted(values.items())]
        lines.append("")
    file.path.parent.mkdir(parents=True, exist_ok=True)
    draft = file.path.with_name(file.path.name + ".new")
    draft.touch(mode=0o600)
    draft.write_text("\n".join(lines), encoding="utf-8")
    draft.replace(file.path)


def with_setting(file: ConfigFile, context: str, key: str, value: str) -> ConfigFile:
    """The file with one setting changed; the first context made becomes the current one."""
    if key not in SETTABLE:
        hint = " A key goes into a file; set key_file to its path." if key == "private_key" else ""
        raise ConfigurationError(
            f"There is no setting called {key!r} in a context.{hint}",
            next_step=f"Choose one of: {', '.join(SETTABLE)}.",
        )
    if key in ("url", "rpc_url"):
        value = _checked_url(key, value)
    if key == "chain_id":
        _chain_id(value)
    contexts = {name: dict(values) for name, values in file.contexts.items()}
    contexts.setdefault(_checked_name(context), {})[key] = value
    return replace(file, current=file.current or context, contexts=contexts)


def with_context(file: ConfigFile, context: str, settings: Mapping[str, str]) -> ConfigFile:
    """The file with one whole context written and made current."""
    contexts = {name: values for name, values in file.contexts.items() if name != context}
    changed = replace(file, contexts=contexts)
    for key, value in settings.items():
        changed = with_setting(changed, context, key, value)
    return replace(changed, current=context)


def without_context(file: ConfigFile, context: str) -> ConfigFile:
    """The file less one context; nothing is current when it was the current one."""
    _context(file, context)
    contexts = {name: values for name, values in file.contexts.items() if name != context}
    return replace(
        file, contexts=contexts, current=None if file.current == context else file.current
    )


def using_context(file: ConfigFile, context: str) -> ConfigFile:
    _context(file, context)
    return replace(file, current=context)


def shown(config: Config) -> dict[str, str | int | None]:
    """The settings as they may be printed: secrets only say whether they are there."""
    values = {f.name: getattr(config, f.name) for f in fields(config)}
    return {k: ("set" if v else None) if k in SECRET else v for k, v in values.items()}


def read_key_file(path: Path) -> str:
    """The key in a file that nobody else can read; refuses a file open to others."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigurationError(
            f"The key file {path} cannot be read: {problem}.",
            next_step="Correct key_file, or make a key with `tallystick wallet create`.",
        ) from problem
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(
            f"The key file {path} can be read by others (mode {stat.S_IMODE(mode):04o}).",
            next_step=f"Run: chmod 600 {path}",
        )
    return text


def _context(file: ConfigFile, name: str) -> Mapping[str, str]:
    if name in file.contexts:
        return file.contexts[name]
    known = ", ".join(sorted(file.contexts)) or "none yet"
    raise ConfigurationError(
        f"There is no context called {name!r} in {file.path} (known: {known}).",
        next_step=f"Make it with `tallystick config set url URL --context {name}`.",
    )


def _private_key(key: str | None, key_file: str | None) -> str | None:
    if key is None and key_file is not None:
        key = read_key_file(Path(key_file).expanduser())
    if key is None:
        return None
    digits = key.removeprefix("0x")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digits) or int(digits, 16) == 0:
        # The text itself stays out of the message: it may be a real key with one digit missing.
        raise ConfigurationError(
            f"The private key has {len(digits)} characters after 0x or is not hex.",
            next_step="A key is 64 hex digits; check TALLYSTICK_PRIVATE_KEY or the key file.",
        )
    return "0x" + digits.lower()


def _optional_url(key: str, value: str | None) -> str | None:
    return None if value is None else _checked_url(key, value)


def _checked_url(key: str, value: str) -> str:
    if re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", value):
        return value.rstrip("/")
    raise ConfigurationError(
        f"The setting {key} is {value!r}, which is no web address.",
        next_step=f"Give it as http://... or https://..., for example {DEFAULT_URL}.",
    )


def _chain_id(value: str | None) -> int | None:
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return int(value)
    raise ConfigurationError(
        f"The setting chain_id is {value!r}, which is no number.",
        next_step="Give the chain's number, for example 31337 for a local chain.",
    )


def _checked_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        return name
    raise ConfigurationError(
        f"{name!r} cannot be the name of a context.",
        next_step="Use letters, digits, dots, dashes and underscores.",
    )


def _toml_text(value: str) -> str:
    escaped = "".join(
        f"\\u{ord(c):04x}" if ord(c) < 0x20 or ord(c) == 0x7F else c
        for c in value.replace("\\", "\\\\").replace('"', '\\"')
    )
    return f'"{escaped}"'
