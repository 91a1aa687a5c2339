"""Only the right key opens, for the right task and fence; one changed bit opens nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tallystick.protocol import sealing
from tallystick.protocol.errors import SealError
from tallystick.protocol.sealing import SealingKey
from tallystick.protocol.signatures import sign_text
from tallystick.protocol.types import Digest
from tests.support.anvil import CONSUMER, STRANGER, digest_of_word

TASK, OTHER_TASK = digest_of_word(1), digest_of_word(2)
PROVIDER_KEY = sealing.key_from_seed(b"provider's sixteen bytes")
OTHER_KEY = sealing.key_from_seed(b"another provider's seed")
CONTENT_KEY = bytes(range(32))

Seal = Callable[[str, Digest, int, bytes], bytes]
Open = Callable[[SealingKey, Digest, int, bytes], bytes]

BOTH = pytest.mark.parametrize(
    ("seal", "unseal"),
    [
        (sealing.seal_input_key, sealing.open_input_key),
        (sealing.seal_result, sealing.open_result),
    ],
    ids=["input key", "result"],
)


class TestSealed:
    @BOTH
    def test_opens_for_the_one_it_is_meant_for(self, seal: Seal, unseal: Open) -> None:
        sealed = seal(PROVIDER_KEY.public, TASK, 1, CONTENT_KEY)
        assert unseal(PROVIDER_KEY, TASK, 1, sealed) == CONTENT_KEY
        assert CONTENT_KEY not in sealed

    @BOTH
    @pytest.mark.parametrize(
        ("key", "task", "fence"),
        [(OTHER_KEY, TASK, 1), (PROVIDER_KEY, OTHER_TASK, 1), (PROVIDER_KEY, TASK, 2)],
        ids=["another provider", "another task", "another fence"],
    )
    def test_is_closed_for(
        self, seal: Seal, unseal: Open, key: SealingKey, task: Digest, fence: int
    ) -> None:
        sealed = seal(PROVIDER_KEY.public, TASK, 1, CONTENT_KEY)
        with pytest.raises(SealError, match="do not open"):
            unseal(key, task, fence, sealed)

    def test_input_keys_and_results_do_not_pass_for_each_other(self) -> None:
        sealed = sealing.seal_result(PROVIDER_KEY.public, TASK, 1, CONTENT_KEY)
        with pytest.raises(SealError):
            sealing.open_input_key(PROVIDER_KEY, TASK, 1, sealed)

    def test_one_changed_bit_or_missing_byte_opens_nothing(self) -> None:
        sealed = sealing.seal_result(PROVIDER_KEY.public, TASK, 1, b"result")
        for at in range(len(sealed)):
            changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            with pytest.raises(SealError):
                sealing.open_result(PROVIDER_KEY, TASK, 1, changed)
            with pytest.raises(SealError):
                sealing.open_result(PROVIDER_KEY, TASK, 1, sealed[:at])

    def test_twice_the_same_is_sealed_differently(self) -> None:
        one, other = (sealing.seal_result(PROVIDER_KEY.public, TASK, 1, b"") for _ in range(2))
        assert one != other

    @pytest.mark.parametrize("public", ["", "0x", "0x12", "0x" + "11" * 33, "0xzz", b"\x01" * 31])
    def test_what_is_no_public_key_is_refused(self, public: str | bytes) -> None:
        with pytest.raises(SealError, match="not an X25519 public key"):
            sealing.seal_result(public, TASK, 1, b"")

    def test_a_sealed_content_key_of_another_length_is_refused(self) -> None:
        sealed = sealing.seal_input_key(PROVIDER_KEY.public, TASK, 1, b"short")
        with pytest.raises(SealError, match="5 bytes"):
            sealing.open_input_key(PROVIDER_KEY, TASK, 1, sealed)


class TestBundles:
    @pytest.mark.parametrize("bundle", [b"", b"x", b"train" * 100_000])
    def test_open_with_their_key(self, bundle: bytes) -> None:
        assert sealing.decrypt_bundle(CONTENT_KEY, sealing.encrypt_bundle(CONTENT_KEY, bundle)) == (
            bundle
        )

    def test_do_not_open_changed_cut_or_with_another_key(self) -> None:
        sealed = sealing.encrypt_bundle(CONTENT_KEY, b"input")
        for wrong in (sealed[:-1], sealed[:12], sealed[:3], b"", sealed[:-1] + b"\0"):
            with pytest.raises(SealError, match="does not open"):
                sealing.decrypt_bundle(CONTENT_KEY, wrong)
        with pytest.raises(SealError, match="does not open"):
            sealing.decrypt_bundle(bytes(32), sealed)

    def test_a_content_key_of_another_length_is_refused(self) -> None:
        with pytest.raises(SealError, match="32 bytes"):
            sealing.encrypt_bundle(b"short", b"")


class TestKeys:
    def test_the_wallet_alone_makes_the_consumers_key_again(self) -> None:
        key = sealing.consumer_key_from_wallet(CONSUMER.key)
        assert key.public == sealing.consumer_key_from_wallet(CONSUMER.key).public
        assert key.public != sealing.consumer_key_from_wallet(STRANGER.key).public
        signed = sign_text(sealing.WALLET_TEXT, CONSUMER.key)
        assert sealing.consumer_key_from_signature(signed).public == key.public

    def test_pinned_so_that_old_results_stay_readable(self) -> None:
        key = sealing.consumer_key_from_wallet("0x" + "11" * 32)
        assert (key.public, sealing.content_key(key, 1).hex()) == PINNED

    def test_every_task_has_a_content_key_of_its_own(self) -> None:
        key = sealing.consumer_key_from_wallet(CONSUMER.key)
        assert sealing.content_key(key, 1) == sealing.content_key(key, 1)
        assert sealing.content_key(key, 1) != sealing.content_key(key, 2)

    def test_generated_keys_differ_and_come_back_from_their_bytes(self) -> None:
        key = sealing.generate_key()
        assert key.public != sealing.generate_key().public
        assert SealingKey(key.private_bytes()).public == key.public

    def test_a_seed_that_can_be_guessed_is_refused(self) -> None:
        with pytest.raises(SealError, match="guessed"):
            sealing.key_from_seed(b"password")

    def test_the_private_half_is_never_printed(self) -> None:
        assert PROVIDER_KEY.private_bytes().hex() not in repr(PROVIDER_KEY)


PINNED = (
    "0x58da8d3cb5c83c0bac2aa488b4ebc3f4a5a21cd6760b4b8929dc331498bbd444",
    "a14c9d5bd0baf3091efe9fa2028c748ec1086537e0428f44803b97ea7524a3dc",
)
