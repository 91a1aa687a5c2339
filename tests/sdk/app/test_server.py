"""A worker answers over a Unix socket, with real HTTP, from a process of its own.

ready
├── 503 until the warm-up hook is done, 200 after; a call meanwhile is told to come again
└── a hook that fails ends the process with 1, and its log says why
call
├── JSON in, JSON out; bytes and a media type as they are; the call's id in every answer
├── RunPod's style: the input in job["input"]
├── asynchronous handlers
├── input: not by the schema, not JSON, not an object, a wrong name, a wrong type, refused by the
│   handler
├── failing handler: typed, logged with the call's id, no word of it in the answer
├── output: NaN, a set, too large
├── body: too large by its length, too large in pieces, of another media type, too slow
├── too late: 504, an asynchronous one is cancelled, a plain one told; its slot stays taken
├── more at once than it answers: 503 busy; all slots held by overdue calls: stuck
└── the caller leaves: the handler is told
stream
├── JSON lines, server-sent events, one document
├── a failure on the way is the last event, and so are too late and too large
└── the caller leaves: the generator is closed
stop
├── SIGTERM lets a call finish, and a stream
├── a handler that never returns is cut off
└── a socket in use is refused, one that a killed worker left is replaced
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick.app.problems import KINDS
from tests.sdk.app.conftest import Running, Start, launch, workers


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One worker for the tests that leave no trace in it."""
    with workers(tmp_path_factory.mktemp("shared")) as start:
        yield start()


def problem(answer: httpx.Response, code: str) -> dict[str, Any]:
    """The one problem document, with the status that belongs to its code."""
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert (told["code"], answer.status_code) == (code, KINDS[code].status)
    assert told["type"] == f"urn:tallystick:problem:{code}"
    assert told["fault"] == KINDS[code].fault
    assert told["call_id"] == answer.headers["tallystick-call-id"]
    assert "Traceback" not in answer.text
    assert "secret" not in answer.text
    return told


class TestReady:
    def test_only_after_the_warm_up_hook(self, start: Start, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        worker = start(warm_up=True, wait=False, environment={"TEST_GATE": str(gate)})
        worker.until(lambda: worker.events("worker_listening"), "listening")
        answer = worker.ready()
        assert (answer.status_code, answer.json()["state"]) == (503, "starting")
        assert problem(worker.do("echo"), "starting")
        gate.touch()
        worker.until(lambda: worker.ready().status_code == 200, "ready")
        assert worker.ready().json() == {"state": "ready", "running": 0, "concurrency": 1}
        assert worker.do("echo").status_code == 200

    def test_a_hook_that_fails_ends_the_process(self, start: Start) -> None:
        worker = start(warm_up=True, wait=False, environment={"TEST_FAIL": "1"})
        assert worker.process.wait(20) == 1
        assert "the weights are not there" in worker.event("warm_up_failed")["trace"]
        assert not (worker.project / "s").exists()

    def test_a_signal_during_the_warm_up_ends_it(self, start: Start, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        worker = start(warm_up=True, wait=False, environment={"TEST_GATE": str(gate)})
        worker.until(lambda: worker.events("worker_listening"), "listening")
        worker.ready()
        threading.Timer(0.3, gate.touch).start()  # a thread in a hook cannot be stopped
        assert worker.terminate() == 0


class TestCall:
    def test_json_in_and_out(self, start: Start) -> None:
        worker = start()
        answer = worker.call({"manner": "echo", "text": "häl\u2028lo"})
        assert (answer.status_code, answer.json()) == (200, {"text": "häl\u2028lo"})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["server-timing"].startswith("run;dur=")
        raw = worker.do("bytes", n=2)
        assert raw.content == b"\x00\xff\x00\xff"
        assert raw.headers["content-type"] == "application/octet-stream"
        assert worker.do("image").headers["content-type"] == "image/png"

    def test_the_callers_id_goes_round(self, start: Start) -> None:
        worker = start()
        content = {"manner": "call id"}
        told = worker.call(content, **{"tallystick-call-id": "0xab-1"})
        assert told.json() == {"call_id": "0xab-1", "in_time": True, "over": False}
        assert told.headers["tallystick-call-id"] == "0xab-1"
        assert worker.event("call_finished")["call_id"] == "0xab-1"
        forged = worker.call(content, **{"tallystick-call-id": 'x" y'}).json()["call_id"]
        assert len(forged) == 32

    def test_the_schema_decides_before_the_handler(self, start: Start) -> None:
        schema = {
            "properties": {"manner": {"const": "echo"}, "text": {"maxLength": 3}},
            "required": ["manner"],
        }
        worker = start(input_schema=json.dumps(schema))
        assert worker.do("echo", text="abc").json() == {"text": "abc"}
        told = problem(worker.do("echo", text="abcd"), "invalid_input")
        assert told["detail"] == "At $.text: it is longer than 3 characters."
        assert problem(worker.do("raise"), "invalid_input")
        assert not worker.event("call_failed").get("trace")

    def test_runpods_style(self, start: Start) -> None:
        worker = start("handlers:job", kind="runpod")
        told = worker.call([1, {"a": None}]).json()
        assert told["got"] == [1, {"a": None}]
        assert len(told["id"]) == 32
        pieces = start("handlers:job_pieces", kind="runpod")
        assert pieces.call({"words": ["a", "b"]}, accept="application/json").json() == ["a", "b"]

    def test_asynchronous(self, start: Start) -> None:
        worker = start("handlers:do_async")
        assert worker.do("plain").json() == {"async": "plain"}
        assert problem(worker.do("raise"), "handler_failed")
        lines = worker.do("stream", n=2, seconds=0.0).text.splitlines()
        assert lines == ['{"output":0}', '{"output":1}', '{"completed":{"pieces":2}}']
        assert worker.marks() == ["closed"]

    @pytest.mark.parametrize(
        ("body", "code", "says"),
        [
            (b"{", "malformed_body", "not one JSON document"),
            (b"\xff", "malformed_body", "not one JSON document"),
            (b'{"a":1,"a":2}', "malformed_body", "a name is given twice"),
            (b'{"manner":NaN}', "malformed_body", "NaN"),
            (b"[" * 100_000, "malformed_body", "not one JSON document"),
            (b"[1]", "invalid_input", "The input is a list; this handler takes an object."),
            (b"{}", "invalid_input", "missing a required argument: 'manner'"),
            (b'{"manner":"echo","no":1}', "invalid_input", "'no'"),
            (b'{"manner":7}', "invalid_input", "manner is a whole number; the handler expects"),
            (b'{"manner":"echo","n":true}', "invalid_input", "n is true or false"),
            (b'{"manner":"echo","n":null}', "invalid_input", "n is null"),
            (b'{"manner":"refuse"}', "input_refused", "the picture is too large"),
        ],
        ids=lambda value: value.decode("latin-1")[:30] if isinstance(value, bytes) else None,
    )
    def test_input_that_does_not_fit(
        self, shared: Running, body: bytes, code: str, says: str
    ) -> None:
        headers = {"content-type": "application/json; charset=utf-8"}
        answer = shared.http.post("/call", content=body, headers=headers)
        assert says in problem(answer, code)["detail"]

    def test_a_whole_number_is_a_number(self, shared: Running) -> None:
        assert shared.do("echo", seconds=1).status_code == 200

    @pytest.mark.parametrize("manner", ["raise", "exit"])
    def test_a_failing_handler_is_logged_and_not_told(self, shared: Running, manner: str) -> None:
        told = problem(shared.do(manner), "handler_failed")

        def lines() -> list[dict[str, Any]]:
            return [e for e in shared.events("call_failed") if e["call_id"] == told["call_id"]]

        shared.until(lines, "logged")
        logged = lines()
        assert [event["code"] for event in logged] == ["handler_failed"]
        assert ("the secret is 42" if manner == "raise" else "SystemExit: 3") in logged[0]["trace"]
        assert shared.do("echo").status_code == 200

    @pytest.mark.parametrize("manner", ["nan", "set"])
    def test_output_that_cannot_be_sent(self, shared: Running, manner: str) -> None:
        assert problem(shared.do(manner), "output_not_json")

    def test_output_may_have_so_many_bytes(self, start: Start) -> None:
        worker = start(max_response_bytes=100)
        assert len(worker.do("large", n=98).content) == 100  # with its quotes
        assert "100 bytes" in problem(worker.do("large", n=99), "response_too_large")["detail"]

    def test_input_may_have_so_many_bytes(self, start: Start) -> None:
        worker = start(max_request_bytes=100)
        fits = json.dumps({"manner": "echo"}).ljust(100)
        headers = {"content-type": "application/json"}
        assert worker.http.post("/call", content=fits, headers=headers).status_code == 200
        by_length = worker.http.post("/call", content=fits + " ", headers=headers)
        assert problem(by_length, "request_too_large")
        in_pieces = worker.http.post("/call", content=iter([b" " * 60] * 3), headers=headers)
        assert problem(in_pieces, "request_too_large")

    def test_other_media_types_paths_and_methods(self, shared: Running) -> None:
        form = shared.http.post("/call", data={"manner": "echo"})
        assert problem(form, "wrong_media_type")
        assert problem(shared.http.post("/call", content=b"{}"), "wrong_media_type")
        assert problem(shared.http.get("/call"), "wrong_method")
        assert problem(shared.http.get("/"), "unknown_path")
        assert problem(shared.http.post("/call/", json={}), "unknown_path")

    def test_a_body_that_does_not_come(self, start: Start) -> None:
        worker = start(timeout_s=1)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(10)
            caller.connect(str(worker.project / "s"))
            head = b"POST /call HTTP/1.1\r\nhost: w\r\ncontent-type: application/json\r\n"
            caller.sendall(head + b"content-length: 9\r\n\r\n{")
            assert b" 408 " in caller.recv(65_536).partition(b"\r\n")[0]


class TestTooLate:
    def test_an_asynchronous_handler_is_cancelled(self, start: Start) -> None:
        worker = start("handlers:do_async", timeout_s=1)
        began = time.monotonic()
        assert problem(worker.do("sleep"), "timed_out")
        assert 0.9 < time.monotonic() - began < 5
        worker.until(lambda: worker.marks() == ["cancelled"], "cancelled")
        assert worker.do("plain").status_code == 200

    def test_a_plain_one_is_told_and_its_slot_free_when_it_returns(self, start: Start) -> None:
        worker = start(timeout_s=1)
        assert problem(worker.do("until over"), "timed_out")
        worker.until(lambda: worker.marks() == ["began", "over"], "told")
        worker.until(lambda: worker.do("echo").status_code == 200, "free")

    def test_one_that_does_not_return_leaves_the_worker_stuck(self, start: Start) -> None:
        worker = start(timeout_s=1)
        assert problem(worker.do("sleep", seconds=5.0), "timed_out")
        assert problem(worker.do("echo"), "busy")  # it may just not have noticed yet
        worker.until(lambda: worker.ready().status_code == 503, "stuck")
        assert worker.ready().json() == {"state": "stuck", "running": 1, "concurrency": 1}
        assert problem(worker.do("echo"), "stuck")
        worker.until(lambda: worker.ready().status_code == 200, "free again")


class TestAtOnce:
    def test_no_more_than_it_says(self, start: Start) -> None:
        worker = start(concurrency=2)
        with ThreadPoolExecutor(2) as callers:
            two = [callers.submit(worker.do, "sleep", seconds=1.0) for _ in range(2)]
            worker.until(lambda: worker.ready().json()["running"] == 2, "both run")
            third = worker.do("echo")
            assert problem(third, "busy")
            assert third.headers["retry-after"] == "1"
            assert [answer.result().json() for answer in two] == ["slept", "slept"]
        assert worker.do("echo").status_code == 200

    def test_who_has_an_answer_finds_the_slot_free(self, start: Start) -> None:
        worker = start()
        codes = [worker.do("echo").status_code for _ in range(200)]
        codes += [worker.do("stream", n=2, seconds=0.0).status_code for _ in range(50)]
        assert set(codes) == {200}


class TestCallerLeaves:
    def test_the_handler_is_told(self, start: Start) -> None:
        worker = start()
        with pytest.raises(httpx.ReadTimeout):
            worker.http.post("/call", json={"manner": "until over"}, timeout=0.3)
        worker.until(lambda: worker.marks() == ["began", "over"], "told")
        worker.until(lambda: worker.events("call_abandoned"), "logged")
        worker.until(lambda: worker.do("echo").status_code == 200, "free")

    def test_an_asynchronous_one_is_cancelled(self, start: Start) -> None:
        worker = start("handlers:do_async")
        with pytest.raises(httpx.ReadTimeout):
            worker.http.post("/call", json={"manner": "sleep"}, timeout=0.3)
        worker.until(lambda: worker.marks() == ["cancelled"], "cancelled")


class TestStream:
    def test_json_lines(self, shared: Running) -> None:
        answer = shared.do("stream", n=2, seconds=0.0, text="a\nb")
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert [json.loads(line) for line in answer.text.splitlines()] == [
            {"output": {"piece": 0, "text": "a\nb"}},
            {"output": {"piece": 1, "text": "a\nb"}},
            {"completed": {"pieces": 2}},
        ]

    def test_pieces_come_as_they_are_made(self, start: Start) -> None:
        worker = start()
        body = {"manner": "stream", "n": 2, "seconds": 1.0}
        with worker.http.stream("POST", "/call", json=body) as answer:
            lines = answer.iter_lines()
            assert json.loads(next(lines))["output"]["piece"] == 0
            assert worker.marks() == []  # it has not ended: it sleeps before the second piece
            assert len(list(lines)) == 2

    def test_server_sent_events(self, shared: Running) -> None:
        content = {"manner": "stream", "n": 1, "seconds": 0.0, "text": "a\nb"}
        answer = shared.call(content, accept="text/event-stream")
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.text == (
            'event: output\ndata: {"piece":0,"text":"a\\nb"}\n\n'
            'event: completed\ndata: {"pieces":1}\n\n'
        )

    def test_one_document(self, shared: Running) -> None:
        content = {"manner": "stream", "n": 2, "seconds": 0.0}
        answer = shared.call(content, accept="application/json")
        assert [piece["piece"] for piece in answer.json()] == [0, 1]

    def test_a_failure_on_the_way_is_the_last_event(self, shared: Running) -> None:
        lines = shared.do("stream that fails", n=1).text.splitlines()
        assert lines[0] == '{"output":0}'
        assert json.loads(lines[1])["error"]["code"] == "handler_failed"
        assert len(lines) == 2
        assert "secret" not in lines[1]
        none = shared.do("stream that fails", n=0)
        assert problem(none, "handler_failed")

    def test_the_slot_is_free_before_the_failure_is_told(self, shared: Running) -> None:
        for _ in range(100):
            assert '{"output":0}' in shared.do("stream that fails", n=1).text

    def test_too_late_and_too_large(self, start: Start) -> None:
        worker = start(timeout_s=1, max_response_bytes=100)
        late = worker.do("stream", seconds=5.0).text.splitlines()
        assert json.loads(late[-1])["error"]["code"] == "timed_out"
        small = start(max_response_bytes=100)
        large = small.do("stream", n=1000, seconds=0.0).text.splitlines()
        assert json.loads(large[-1])["error"]["code"] == "response_too_large"
        small.until(lambda: small.ready().json()["running"] == 0, "free")
        content = {"manner": "stream", "n": 1000, "seconds": 0.0}
        assert problem(small.call(content, accept="application/json"), "response_too_large")
        small.until(lambda: small.marks() == ["closed", "closed"], "closed")

    @pytest.mark.parametrize("entry", ["handlers:do", "handlers:do_async"])
    def test_the_caller_leaves(self, start: Start, entry: str) -> None:
        worker = start(entry)
        body = {"manner": "stream", "n": 10_000, "seconds": 0.01}
        with worker.http.stream("POST", "/call", json=body) as answer:
            next(answer.iter_lines())
        worker.until(lambda: worker.marks() == ["closed"], "closed")
        worker.until(lambda: worker.ready().json()["running"] == 0, "free")
        assert worker.event("call_abandoned")


class TestStop:
    def test_a_call_may_finish(self, start: Start) -> None:
        worker = start()
        with ThreadPoolExecutor(1) as caller:
            answer = caller.submit(worker.do, "sleep", seconds=1.0)
            worker.until(lambda: worker.marks() == ["began"], "began")
            assert worker.terminate() == 0
            assert answer.result().json() == "slept"
        assert not (worker.project / "s").exists()
        assert [e["event"] for e in worker.events("worker_stopped")] == ["worker_stopped"]

    def test_a_stream_may_finish(self, start: Start) -> None:
        worker = start()
        body = {"manner": "stream", "n": 3, "seconds": 0.3}
        with worker.http.stream("POST", "/call", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            worker.process.terminate()
            assert json.loads(list(lines)[-1]) == {"completed": {"pieces": 3}}
        assert worker.process.wait(20) == 0

    def test_a_handler_that_never_returns_is_cut_off(self, start: Start) -> None:
        worker = start(timeout_s=1)
        assert problem(worker.do("sleep", seconds=600.0), "timed_out")
        began = time.monotonic()
        assert worker.terminate() == 0
        assert time.monotonic() - began < 10

    def test_a_socket_in_use_is_refused_and_a_dead_ones_replaced(self, start: Start) -> None:
        worker = start()
        second = launch(worker.project, {})
        assert second.wait(20) == 2
        assert "another worker listens on" in worker.log()
        assert worker.do("echo").status_code == 200
        worker.process.kill()
        worker.process.wait()
        assert (worker.project / "s").is_socket()
        third = Running(worker.project, launch(worker.project, {}))
        third.until(lambda: len(third.events("worker_ready")) == 2, "ready again")
        assert third.do("echo").status_code == 200
        assert third.terminate() == 0
        third.close()
