"""The same manifest hashes the same everywhere; any other does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tallystick.protocol.hashing import digest_of
from tallystick.protocol.manifest import canonical_json, spec_digest
from tallystick.protocol.wire import Manifest, Resources

MANIFEST = Manifest(
    name="train",
    image="process",
    command=("python", "/task/in/train.py"),
    env={"B": "2", "A": "ü"},
    input_digest="0x" + "ab" * 32,
    resources=Resources(gpu_class="gpu1", gpus=4),
    result_key="0x" + "11" * 32,
)


def test_the_disk_it_needs_is_no_part_of_what_is_signed() -> None:
    assert MANIFEST.disk_needed_mib == 1024 + 256
    assert b"needed" not in canonical_json(MANIFEST)


def test_the_bytes_are_these() -> None:
    assert canonical_json(MANIFEST).decode() == (
        '{"command":["python","/task/in/train.py"],"env":{"A":"ü","B":"2"},"image":"process",'
        '"input_digest":"0x' + "ab" * 32 + '","max_output_mib":256,"name":"train",'
        '"network":"none","resources":{"cpu_milli":1000,"disk_mib":1024,"gpu_class":"gpu1",'
        '"gpu_memory_mib":0,"gpus":4,"memory_mib":2048},"result_key":"0x' + "11" * 32 + '",'
        '"version":1}'
    )
    assert spec_digest(MANIFEST) == digest_of(canonical_json(MANIFEST))


def test_the_order_of_writing_does_not_matter() -> None:
    shuffled = dict(reversed(list(json.loads(canonical_json(MANIFEST)).items())))
    assert spec_digest(Manifest.model_validate(shuffled)) == spec_digest(MANIFEST)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "train "},
        {"image": "sha256:" + "00" * 32},
        {"command": ("python", "/task/in/train.py", "")},
        {"env": {"A": "ü"}},
        {"input_digest": None},
        {"resources": Resources(gpu_class="gpu1", gpus=5)},
        {"max_output_mib": 257},
        {"result_key": "0x" + "12" * 32},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_change_is_another_spec(change: dict[str, Any]) -> None:
    assert spec_digest(MANIFEST.model_copy(update=change)) != spec_digest(MANIFEST)


@pytest.mark.parametrize("change", [{"network": "host"}, {"version": 2}, {"privileged": True}])
def test_what_the_protocol_does_not_know_is_no_manifest(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Manifest.model_validate({**MANIFEST.model_dump(), **change})
