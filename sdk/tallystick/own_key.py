"""A session key of the consumer's own, and what it was used for.

The notes say which calls were asked for and not signed for yet, and which receipt of each channel
was signed last. With them a program that was killed goes on where it stood, and nobody can show it
a call that it never made. A key from a file has them beside it, in `<file>.notes`; several programs
may share both. A key from an argument or the environment has them in memory only.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from tallystick.errors import ConfigurationError, VerificationFailed
from tallystick.protocol import messages, signatures
from tallystick.protocol.calls import Link
from tallystick.protocol.messages import Domain, Voucher
from tallystick.protocol.types import Address, Digest, Signature

FORGOTTEN_AFTER_MS: Final = 30 * 86_400_000
"""A call of so long ago whose answer never came."""


@dataclass(frozen=True, slots=True)
class AskedCall:
    """A call that goes out; one voucher may be signed for it."""

    id: str
    app_id: str
    version: int | None
    input: Digest
    most_units: int | None
    asked_at_ms: int


class OwnKey:
    """Signs vouchers. Holds the private key in memory and never shows it."""

    def __init__(self, private_key: str, notes: Path | None = None) -> None:
        self._private_key = private_key
        self.address: Address = signatures.address_of(private_key)
        self.notes = Notes(notes)

    def __repr__(self) -> str:
        return f"OwnKey({self.address})"

    def sign(self, domain: Domain, voucher: Voucher) -> Signature:
        return messages.sign(domain, voucher, self._private_key)


@dataclass(slots=True)
class _Pages:
    asked: dict[str, AskedCall]
    signed: dict[str, Link]
    """The last one of each channel."""

    def settle(self, call: AskedCall) -> bool:
        """Crosses it out; or one that is the same but for its name, if another program was quicker.
        So there are never more vouchers than calls that went out."""
        same = (
            one.id
            for one in self.asked.values()
            if (one.app_id, one.input) == (call.app_id, call.input)
        )
        name = call.id if call.id in self.asked else next(same, None)
        return name is not None and self.asked.pop(name, None) is not None


class Notes:
    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._pages = _Pages({}, {})

    def asked(self, call: AskedCall) -> None:
        """Before it is sent."""
        with self._open() as pages:
            old_ms = call.asked_at_ms - FORGOTTEN_AFTER_MS
            pages.asked = {k: one for k, one in pages.asked.items() if one.asked_at_ms > old_ms}
            pages.asked[call.id] = call

    def failed(self, call: AskedCall) -> None:
        """Nothing is owed for it."""
        with self._open() as pages:
            pages.asked.pop(call.id, None)

    def find(self, app_id: str, input: Digest) -> AskedCall | None:
        """The oldest call that went out with this input and is not signed for."""
        with self._open() as pages:
            fitting = (c for c in pages.asked.values() if (c.app_id, c.input) == (app_id, input))
            return min(fitting, key=lambda call: call.asked_at_ms, default=None)

    def last(self, channel: str) -> Link | None:
        """The last receipt that was signed for, as far as it is noted."""
        with self._open() as pages:
            return pages.signed.get(channel)

    def sign(self, channel: str, before: Link, link: Link, call: AskedCall | None) -> None:
        """Before the signature leaves. Raises `VerificationFailed` where another program with this
        key signed something else in the meantime."""
        with self._open() as pages:
            known = pages.signed.get(channel, before)
            if known == link:
                return
            if known != before:
                raise VerificationFailed(
                    f"Channel {channel} was signed up to receipt {known.seq}, and this is receipt "
                    f"{link.seq} behind {before.seq}.",
                    next_step="Nothing was signed. Use one file of the key in all programs, and "
                    "report the gateway if you did.",
                )
            if call is not None and not pages.settle(call):
                raise VerificationFailed(
                    f"The call behind receipt {link.seq} of channel {channel} was signed for "
                    "before.",
                    next_step="Nothing was signed. Report the gateway.",
                )
            pages.signed[channel] = link

    @contextlib.contextmanager
    def _open(self) -> Iterator[_Pages]:
        """As they are now, written down if they are changed."""
        if self._path is None:
            yield self._pages
            return
        with _locked(self._path.with_name(self._path.name + ".lock")):
            text = self._path.read_text(encoding="utf-8") if self._path.exists() else "{}"
            pages = _read(self._path, text)
            before = _text(pages)
            yield pages
            if (after := _text(pages)) != before:
                draft = self._path.with_name(self._path.name + ".new")
                draft.touch(mode=0o600)
                draft.write_text(after, encoding="utf-8")
                draft.replace(self._path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as problem:
        raise ConfigurationError(
            f"The notes of your own key cannot be kept in {path.parent}: {problem.strerror}.",
            next_step="Put the key file into a directory that you can write.",
        ) from problem
    try:
        # Where there are no such locks, one program at a time uses the key.
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _text(pages: _Pages) -> str:
    return json.dumps(
        {
            "asked": {name: asdict(call) for name, call in pages.asked.items()},
            "signed": {name: asdict(link) for name, link in pages.signed.items()},
        },
        indent=1,
    )


def _read(path: Path, text: str) -> _Pages:
    try:
        document: dict[str, dict[str, Any]] = json.loads(text)
        return _Pages(
            {name: AskedCall(**one) for name, one in document.get("asked", {}).items()},
            {name: replace(Link(), **one) for name, one in document.get("signed", {}).items()},
        )
    except (ValueError, TypeError, AttributeError) as problem:
        raise ConfigurationError(
            f"The notes of your own key, {path}, cannot be read: {problem}.",
            next_step="Move it away: the last voucher that the gateway holds takes its place.",
        ) from problem
