"""The Brownie scripts for apps, run as a publisher runs them.

publish_app makes an app, adds a version, ends it or gives it away
set_price announces a price and a discount, and shows what holds
nonsense is answered with what is wrong and what to do, never with a traceback
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tallystick.devnet import DevnetError, LocalMarket, people
from tallystick.protocol import deployments
from tallystick.protocol.apps import app_id
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.types import to_address

PUBLISHER = people.provider(1)
IMAGE = "sha256:" + "6d" * 32
PRICES = ("flat=0", "call=0.001", "gpu-hour=0.36")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("app") / "manifest.json"
    path.write_text('{"gpus": 1}\n')
    return str(path)


@pytest.fixture(scope="module")
def published(market: LocalMarket, manifest: str) -> str:
    """What was said when `llama` was published."""
    words = ("llama", IMAGE, manifest, "ipfs://m", *PRICES)
    royalty = {
        "TALLYSTICK_ROYALTY_TO": people.TREASURY.address,
        "TALLYSTICK_ROYALTY_BPS": "250",
    }
    return market.run_script("publish_app", PUBLISHER, *words, **royalty)


def test_an_app_is_published_priced_and_shown(
    market: LocalMarket, manifest: str, published: str
) -> None:
    deployment = deployments.load(market.deployment_file)
    expected = app_id(
        deployment.chain_id,
        deployment.registry,
        to_address(PUBLISHER.address),
        digest_of(b"llama"),
    )
    assert f"llama is app {expected}" in published
    assert f"2.5 % of it to {people.TREASURY.address}" in published
    run = market.run_script

    words = ("llama", IMAGE, manifest, "ipfs://n", "flat=1", "call=0", "gpu-hour=0")
    assert "version 2 of llama costs 1 TALLY flat" in run(
        "publish_app", PUBLISHER, *words, function="version"
    )

    said = run("set_price", PUBLISHER, "llama", "1", "flat=0", "call=0.002", "gpu-hour=0.72")
    assert re.search(r"version 1 of llama costs 0 TALLY flat, 0.002 TALLY a call, 0.72 TALLY", said)
    said = run("set_price", PUBLISHER, "llama", "25", "1h", "7d", function="discount")
    assert "llama: 25 % off from" in said

    now = run("set_price", people.DEPLOYER, expected, function="show")
    assert f"publisher          {PUBLISHER.address}" in now
    assert "0.001 TALLY a call, 0.36 TALLY a GPU-hour" in now
    assert "a price change takes effect at" in now
    assert digest_of(Path(manifest).read_bytes()) in now
    later = run("set_price", PUBLISHER, "llama", "2d", function="show")
    assert "0.0015 TALLY a call, 0.54 TALLY a GPU-hour" in later
    assert "0.75 TALLY flat" in later


def test_an_app_is_retired_or_made_permanent(market: LocalMarket, manifest: str) -> None:
    run = market.run_script
    for name in ("short", "lasting"):
        run("publish_app", PUBLISHER, name, IMAGE, manifest, "ipfs://m", *PRICES)
    with pytest.raises(DevnetError, match="no way back"):
        run("publish_app", PUBLISHER, "short", function="retire")
    assert "has no price from" in run(
        "publish_app", PUBLISHER, "short", "forever", function="retire"
    )
    assert "retired from" in run("set_price", PUBLISHER, "short", function="show")
    assert "no price: retired" in run("set_price", PUBLISHER, "short", "2d", function="show")
    said = run("publish_app", PUBLISHER, "lasting", "forever", function="renounce")
    assert "lasting is permanent" in said
    with pytest.raises(DevnetError, match="AppIsPermanent"):
        run("set_price", PUBLISHER, "lasting", "1", *PRICES)


@pytest.mark.parametrize(
    ("script", "function", "words", "said"),
    [
        ("publish_app", "main", ("llama", IMAGE, "MANIFEST", "ipfs://m", *PRICES), "already"),
        ("publish_app", "main", ("new", "llama:latest", "MANIFEST", "m", *PRICES), "its digest"),
        ("publish_app", "main", ("new", IMAGE, "/nowhere", "m", *PRICES), "cannot be read"),
        ("publish_app", "main", ("new", IMAGE, "MANIFEST", *PRICES), "name flat="),
        ("set_price", "main", ("llama", "7", *PRICES), "versions 1 to"),
        ("set_price", "main", ("llama", "1", "flat=-1", "call=0", "gpu-hour=0"), "above zero"),
        ("set_price", "main", ("llama", "1", "flat=0", "call=0", "gpu-hour=x"), "gpu-hour"),
        ("set_price", "main", ("nobody's", "1", *PRICES), "is published by"),
        ("set_price", "discount", ("llama", "101", "1h", "1d"), "more than the whole"),
        ("set_price", "discount", ("llama", "5", "soon", "1d"), "is no time"),
        ("set_price", "discount", ("llama", "5", "1h", "400d"), "DiscountTooLate"),
    ],
)
def test_nonsense_is_answered_with_a_sentence(
    market: LocalMarket,
    manifest: str,
    published: str,
    script: str,
    function: str,
    words: tuple[str, ...],
    said: str,
) -> None:
    assert published
    given = [manifest if word == "MANIFEST" else word for word in words]
    with pytest.raises(DevnetError) as refusal:
        market.run_script(script, PUBLISHER, *given, function=function)
    assert "error: " in refusal.value.sentence
    assert said in refusal.value.sentence
    assert "Traceback" not in refusal.value.sentence


def test_another_persons_app_cannot_be_changed(market: LocalMarket, published: str) -> None:
    found = re.search(r"llama is app (0x[0-9a-f]{64})", published)
    assert found is not None
    with pytest.raises(DevnetError, match="which alone may change it"):
        market.run_script("set_price", people.provider(2), found[1], "1", *PRICES)
