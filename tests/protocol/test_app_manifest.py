"""A version of an app as bytes that hash the same everywhere, and what such a file may say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from tallystick.protocol.app_manifest import (
    MAX_MANIFEST_BYTES,
    AppManifest,
    FunctionHandler,
    HttpHandler,
    RunPodHandler,
    Scaling,
    app_manifest_digest,
    image_digest,
    read_app_manifest,
)
from tallystick.protocol.errors import WireError
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.manifest import canonical_json
from tallystick.protocol.types import ZERO_DIGEST
from tallystick.protocol.wire import Resources

IMAGE = "registry.example/echo@sha256:" + "6d" * 32
APP = AppManifest(name="echo", image=IMAGE, handler=FunctionHandler(entry="app:echo"))


class TestBytes:
    def test_every_field_is_in_them(self) -> None:
        assert canonical_json(APP).decode() == (
            '{"concurrency":1,"environment":[],"handler":{"entry":"app:echo","kind":"function",'
            '"warm_up":null},"image":"' + IMAGE + '","input_schema":"",'
            '"max_request_bytes":4194304,"max_response_bytes":16777216,"name":"echo",'
            '"network":"none","ready_timeout_s":120,"resources":{"cpu_milli":1000,'
            '"disk_mib":1024,"gpu_class":"","gpu_memory_mib":0,"gpus":0,"memory_mib":2048},'
            '"safe_to_repeat":true,"scaling":{"cooldown_s":60,"max_workers":4,"min_workers":0,'
            '"target_queue_delay_ms":2000},"timeout_s":60,"version":1}'
        )
        assert app_manifest_digest(APP) == digest_of(canonical_json(APP))

    def test_a_schema_is_kept_as_text_so_that_no_reader_prints_its_numbers(self) -> None:
        schema = {"type": "object", "properties": {"temperature": {"default": 0.7}}}
        given = APP.model_copy(update={"input_schema": json.dumps(schema)})
        read = AppManifest.model_validate({**APP.model_dump(), "input_schema": schema})
        assert json.loads(read.input_schema) == json.loads(given.input_schema) == schema
        assert app_manifest_digest(read) != app_manifest_digest(given)  # other spaces, other text


class TestReading:
    def test_the_file_that_the_registry_names(self) -> None:
        assert read_app_manifest(canonical_json(APP), expected=app_manifest_digest(APP)) == APP

    def test_refuses_another_file(self) -> None:
        with pytest.raises(WireError, match=f"the registry says {ZERO_DIGEST}"):
            read_app_manifest(canonical_json(APP), expected=ZERO_DIGEST)

    def test_refuses_a_file_without_end_before_hashing_it(self) -> None:
        with pytest.raises(WireError, match="are allowed"):
            read_app_manifest(b" " * (MAX_MANIFEST_BYTES + 1), expected=ZERO_DIGEST)

    def test_refuses_a_field_it_does_not_know(self) -> None:
        file = json.dumps({**APP.model_dump(mode="json"), "privileged": True}).encode()
        with pytest.raises(WireError, match="privileged"):
            read_app_manifest(file, expected=digest_of(file))


class TestFields:
    @pytest.mark.parametrize(
        "change",
        [
            {"network": "host"},
            {"timeout_s": 0},
            {"concurrency": 0},
            {"max_request_bytes": 0},
            {"environment": ["A", "A"]},
            {"environment": ["A=1"]},
            {"input_schema": "{"},
            {"input_schema": "[]"},
            {"handler": {"kind": "function", "entry": "app.py"}},
            {"handler": {"kind": "shell", "entry": "app:run"}},
            {"handler": {"kind": "http"}},
            {"handler": {"kind": "http", "port": 80, "socket": "/run/app.sock"}},
            {"handler": {"kind": "http", "port": 80, "path": "/call?x=1"}},
            {"scaling": {"min_workers": 5, "max_workers": 4}},
        ],
        ids=str,
    )
    def test_refuses(self, change: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            AppManifest.model_validate({**APP.model_dump(), **change})

    @pytest.mark.parametrize(
        "handler",
        [
            RunPodHandler(entry="handler:run", warm_up="handler:load"),
            HttpHandler(port=8000, path="/v1/predict"),
            HttpHandler(socket="/run/tallystick/app.sock"),
        ],
        ids=lambda handler: str(handler.kind),
    )
    def test_keeps_each_kind_of_handler(self, handler: RunPodHandler | HttpHandler) -> None:
        app = APP.model_copy(update={"handler": handler})
        assert read_app_manifest(canonical_json(app), expected=app_manifest_digest(app)) == app

    def test_cards_are_held_by_one_call_at_a_time_or_shared(self) -> None:
        alone = APP.model_copy(update={"resources": Resources(gpu_class="gpu1", gpus=2)})
        shared = alone.model_copy(update={"concurrency": 8})
        assert (alone.gpus_held, shared.gpus_held, APP.gpus_held) == (2, 0, 0)

    def test_scaling_down_to_nothing_is_the_default(self) -> None:
        assert Scaling().min_workers == 0


class TestImageDigest:
    def test_is_the_sha256_that_names_the_image(self) -> None:
        assert image_digest(IMAGE) == image_digest("sha256:" + "6d" * 32) == "0x" + "6d" * 32

    def test_of_the_development_runtime_is_the_hash_of_its_name(self) -> None:
        assert image_digest("process") == digest_of(b"process")

    @pytest.mark.parametrize("image", ["echo:latest", "echo@sha256:6d", "sha256:" + "6D" * 32, ""])
    def test_refuses_what_can_change_under_its_name(self, image: str) -> None:
        with pytest.raises(WireError, match="by its digest"):
            image_digest(image)
