"""The agent's two keys: the operator key it is given, the sealing key it makes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.sealing import SealingKey, generate_key
from tallystick.protocol.signatures import address_of, private_key_bytes
from tallystick_provider.errors import SettingsError


def operator_key(path: Path) -> bytes:
    """Refused when others may read the file: this key signs receipts and pays gas."""
    try:
        mode = path.stat().st_mode
        text = path.read_text().strip()
    except OSError as error:
        raise SettingsError(
            f"the key file {path} cannot be read ({error.strerror}); set "
            "TALLYSTICK_PROVIDER_KEY_FILE to a file with the operator key in hex"
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(
            f"the key file {path} has mode {stat.S_IMODE(mode):04o}, others may read it; "
            f"run: chmod 600 {path}"
        )
    try:
        key = private_key_bytes(text)
        address_of(key)
    except (ProtocolError, ValueError):
        raise SettingsError(
            f"the key file {path} holds no private key; expected 64 hex digits"
        ) from None
    return key


def sealing_key(path: Path) -> SealingKey:
    """The key that inputs are sealed to; made on the first start."""
    try:
        return SealingKey(bytes.fromhex(path.read_text().strip()))
    except FileNotFoundError:
        key = generate_key()
    except (ValueError, ProtocolError):
        raise SettingsError(
            f"{path} is damaged; remove it and a new key is made (offers sealed to the old one "
            "then fail and go to other providers)"
        ) from None
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key.private_bytes().hex())
        file.flush()
        os.fsync(file.fileno())
    return key
