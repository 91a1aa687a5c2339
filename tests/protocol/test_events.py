"""Logs become events, or nothing; what looks like ours elsewhere is nothing (security case 80).

That each event carries the right values is told in test_contracts.py, where they happen.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace

import pytest
from eth_abi.abi import encode

from tallystick.protocol import codec
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import MessageError
from tallystick.protocol.events import (
    APP_EVENTS,
    EVENTS,
    AppEvent,
    Deposited,
    Event,
    EventAt,
    RawLog,
    VersionAdded,
    Withdrawn,
    decode_app_log,
    decode_log,
)
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import Address, Digest
from tests.support.anvil import CONSUMER, STRANGER, digest_of_word


def deposited_log(deployment: Deployment) -> RawLog:
    (topic,) = [
        topic for topic, event in codec.events("ComputeEscrow").items() if event.name == "Deposited"
    ]
    return RawLog(
        address=deployment.escrow,
        topics=(topic, word_of(CONSUMER.address), word_of(STRANGER.address)),
        data=(5).to_bytes(32, "big"),
        block_number=12,
        block_hash=digest_of_word(12),
        tx_hash=digest_of_word(13),
        log_index=3,
    )


def word_of(address: Address) -> Digest:
    return Digest("0x" + address[2:].lower().rjust(64, "0"))


def test_every_event_of_the_contracts_is_known_and_no_other() -> None:
    declared = {
        (contract, event.name)
        for contract in codec.CONTRACTS
        if contract != "TallyToken"
        for event in codec.events(contract).values()
    }
    assert {(kind.CONTRACT, kind.__name__) for kind in (*EVENTS, *APP_EVENTS)} == declared


@pytest.mark.parametrize("kind", [*EVENTS, *APP_EVENTS])
def test_fields_are_the_contracts_in_their_order(kind: type[Event | AppEvent]) -> None:
    (declared,) = [
        event for event in codec.events(kind.CONTRACT).values() if event.name == kind.__name__
    ]
    snake = [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", field.name).lower() for field in declared.fields]
    assert [field.name for field in fields(kind)] == [*snake, "at"]


def test_a_log_becomes_its_event(deployment: Deployment) -> None:
    event = decode_log(deposited_log(deployment), deployment, timestamp_s=99)
    at = EventAt(12, digest_of_word(12), digest_of_word(13), 3, 99)  # type: ignore[arg-type]
    assert event == Deposited(CONSUMER.address, STRANGER.address, 5, at)


def test_text_that_is_no_utf8_makes_no_log_unreadable(deployment: Deployment) -> None:
    """Any publisher can store such bytes, and everybody has to read the log."""
    (topic, declared) = next(
        (topic, event)
        for topic, event in codec.events("AppRegistry").items()
        if event.name == "VersionAdded"
    )
    kinds = [field.kind for field in declared.fields if not field.indexed]
    log = RawLog(
        address=deployment.registry,
        topics=(topic, digest_of_word(1), digest_of_word(1)),
        data=encode(kinds, [bytes(32), bytes(32), "@@@@", (1, 2, 3)]).replace(
            b"@@@@", b"\xffa\0\xc3"
        ),
        block_number=12,
        block_hash=digest_of_word(12),
        tx_hash=digest_of_word(13),
        log_index=3,
    )
    event = decode_app_log(log, deployment)
    assert isinstance(event, VersionAdded)
    assert (event.manifest_uri, event.price) == ("\ufffda\0\ufffd", Price(1, 2, 3))


def test_the_same_from_another_contract_is_nothing(deployment: Deployment) -> None:
    log = deposited_log(deployment)
    for address in (STRANGER.address, deployment.market, deployment.staking, deployment.token):
        assert decode_log(replace(log, address=address), deployment) is None


@pytest.mark.parametrize("topics", [(), (digest_of_word(1),)])
def test_an_unknown_topic_is_nothing(deployment: Deployment, topics: tuple[Digest, ...]) -> None:
    log = replace(deposited_log(deployment), topics=topics)
    assert decode_log(log, deployment) is None
    assert decode_app_log(replace(log, address=deployment.registry), deployment) is None


def test_apps_are_told_apart_from_money(deployment: Deployment) -> None:
    log = deposited_log(deployment)
    assert decode_app_log(log, deployment) is None
    assert decode_app_log(replace(log, address=deployment.registry), deployment) is None
    assert decode_log(replace(log, address=deployment.registry), deployment) is None


def test_a_log_that_does_not_fit_its_event_is_refused(deployment: Deployment) -> None:
    log = deposited_log(deployment)
    for broken in (
        replace(log, data=b""),
        replace(log, data=b"\xff" * 32),
        replace(log, topics=log.topics[:2]),
        replace(log, topics=(*log.topics[:2], Digest("0x" + "ff" * 32))),
    ):
        with pytest.raises(MessageError):
            decode_log(broken, deployment)
    with pytest.raises(MessageError, match="is no Withdrawn"):
        Withdrawn.from_log(log)
