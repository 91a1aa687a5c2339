"""scrub: a card's memory between two tasks (security case 118), on a driver that is simulated here
├── all free memory is overwritten, whatever its size and however it is cut up, and freed again
├── only the card that was named is written to; `--look` writes to none
├── a driver that fails at any call, at any time: never said to be scrubbed, all freed all the same
├── memory that cannot be had, or does not read as zero, is a reason to refuse
└── as a process: one line of JSON, no driver and no time are refusals
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick_provider import gpus, scrub
from tallystick_provider.errors import GpuError
from tallystick_provider.scrub import LARGEST_CHUNK, LEFT_MAX, MIB, NotScrubbed

CARD = "GPU-00112233-4455-6677-8899-aabbccddeeff"
UUID = bytes.fromhex(CARD.removeprefix("GPU-").replace("-", ""))
OTHER = bytes(16)
PAGE = 2 * MIB
ECC_UNCORRECTABLE = 214


class Driver:
    """libcuda as far as scrubbing sees it: memory in pages of 2 MiB that remember their tenant."""

    def __init__(
        self,
        pages: int,
        *,
        context_pages: int = 100,
        hidden_pages: int = 0,
        cards: tuple[bytes, ...] = (UUID,),
        fail: tuple[str, int, int] | None = None,
        deaf_page: int | None = None,
    ) -> None:
        self.memory = ["residue"] * pages
        self.free = list(range(min(context_pages, pages), pages - hidden_pages))
        """Pages that are nobody's; the first ones are the context's own."""
        self.hidden = hidden_pages
        self.cards = cards
        self.fail = fail
        """Function, how many times it works, and then the error it gives."""
        self.deaf_page = deaf_page
        self.calls: Counter[str] = Counter()
        self.current: int | None = None
        self.retained = 0
        self.held: dict[int, list[int]] = {}
        """Pages by the address they were given out at."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.calls[name] += 1
            if self.fail and name == self.fail[0] and self.calls[name] > self.fail[1]:
                return self.fail[2]
            done: int | None = getattr(self, f"do_{name}")(*arguments)
            return done or 0

        return call

    def do_cuInit(self, _flags: int) -> int:
        return 0 if self.cards else 100

    def do_cuGetErrorName(self, _code: int, name: Any) -> None:
        name._obj.value = b"CUDA_ERROR_SIMULATED"

    def do_cuDeviceGetCount(self, count: Any) -> None:
        count._obj.value = len(self.cards)

    def do_cuDeviceGet(self, device: Any, ordinal: int) -> None:
        device._obj.value = ordinal

    def do_cuDeviceGetUuid_v2(self, uuid: Any, device: ctypes.c_int) -> None:
        uuid._obj[:] = self.cards[device.value]

    def do_cuDevicePrimaryCtxRetain(self, context: Any, device: ctypes.c_int) -> None:
        self.retained += 1
        context._obj.value = 1 + device.value

    def do_cuDevicePrimaryCtxRelease_v2(self, _device: ctypes.c_int) -> None:
        self.retained -= 1

    def do_cuCtxSetCurrent(self, context: ctypes.c_void_p) -> None:
        self.current = context.value

    def do_cuCtxSynchronize(self) -> None:
        assert self.current is not None

    def do_cuMemGetInfo_v2(self, free: Any, total: Any) -> None:
        free._obj.value = (len(self.free) + self.hidden) * PAGE
        total._obj.value = len(self.memory) * PAGE

    def do_cuMemAlloc_v2(self, address: Any, size: int) -> int:
        assert size % PAGE == 0
        count = size // PAGE
        if len(self.free) < count:
            return scrub.OUT_OF_MEMORY
        address._obj.value = (self.free[0] + 1) * PAGE * 1000  # says nothing of where it lies
        self.held[address._obj.value], self.free = self.free[:count], self.free[count:]
        return 0

    def do_cuMemsetD8_v2(self, address: ctypes.c_uint64, value: int, size: int) -> None:
        assert size == len(self.held[address.value]) * PAGE
        for page in self.held[address.value]:
            if page != self.deaf_page:
                self.memory[page] = "" if value == 0 else "pattern"

    def do_cuMemcpyDtoH_v2(self, sample: Any, address: ctypes.c_uint64, size: int) -> None:
        start = max(first for first in self.held if first <= address.value)
        page = self.held[start][(address.value - start) // PAGE]
        ctypes.memset(sample, 0 if self.memory[page] == "" else 7, size)

    def do_cuMemFree_v2(self, address: ctypes.c_uint64) -> None:
        self.free += self.held.pop(address.value)

    @property
    def residue(self) -> int:
        return sum(1 for page in self.free if self.memory[page])


def run(driver: Driver) -> scrub.Scrubbed:
    return scrub.scrub(driver, scrub.find(driver, CARD))


@settings(deadline=None)
@given(pages=st.integers(1, 3000), context_pages=st.integers(0, 300))
def test_whatever_its_size_all_free_memory_is_overwritten_and_freed(
    pages: int, context_pages: int
) -> None:
    driver = Driver(pages, context_pages=context_pages)
    done = run(driver)
    assert driver.residue == 0
    assert done.left_bytes == 0
    assert done.overwritten_bytes == max(0, pages - context_pages) * PAGE
    assert (driver.held, driver.retained) == ({}, 0)


def test_large_memory_is_taken_in_large_pieces() -> None:
    driver = Driver(81_920 * MIB // PAGE)
    run(driver)
    assert driver.calls["cuMemAlloc_v2"] < 81_920 * MIB // LARGEST_CHUNK + 20


FUNCTIONS = tuple(name for name in scrub.SIGNATURES if name != "cuGetErrorName")
CLEANING_UP = ("cuMemFree_v2", "cuDevicePrimaryCtxRelease_v2")


@pytest.mark.parametrize("function", FUNCTIONS)
@settings(deadline=None)
@given(times=st.integers(0, 12), error=st.sampled_from([1, ECC_UNCORRECTABLE, 700, 719, 999]))
def test_a_driver_that_fails_is_never_said_to_have_scrubbed(
    function: str, times: int, error: int
) -> None:
    driver = Driver(2500, fail=(function, times, error))
    refused = ""
    try:
        run(driver)
    except NotScrubbed as problem:
        refused = str(problem)
    # An error while giving back what was overwritten ends with the process.
    met = driver.calls[function] > times and function not in CLEANING_UP
    assert (f"{function}: CUDA_ERROR_SIMULATED ({error})" in refused) == met
    if not met:
        assert not any(driver.memory[100:])
    if function not in CLEANING_UP:
        assert (driver.held, driver.retained) == ({}, 0)


def test_memory_that_runs_out_in_the_middle_is_taken_in_smaller_pieces() -> None:
    driver = Driver(1500)
    assert run(driver).overwritten_bytes == 1400 * PAGE
    assert driver.calls["cuMemAlloc_v2"] > 5


@pytest.mark.parametrize(("pages", "borne"), [(LEFT_MAX // PAGE, True), (33, False)])
def test_free_memory_that_cannot_be_had_is_borne_up_to_a_limit(pages: int, borne: bool) -> None:
    driver = Driver(1000, hidden_pages=pages)
    if borne:
        assert run(driver).left_bytes == LEFT_MAX
        return
    with pytest.raises(NotScrubbed, match="66 MiB are free and cannot be had, 64 are borne"):
        run(driver)


@pytest.mark.parametrize("page", [100, 999])
def test_memory_that_does_not_read_as_zero_is_a_faulty_card(page: int) -> None:
    with pytest.raises(NotScrubbed, match="faulty"):
        run(Driver(1000, deaf_page=page))


def test_a_driver_that_gives_out_more_than_there_is() -> None:
    class Endless(Driver):
        def do_cuMemAlloc_v2(self, address: Any, size: int) -> int:
            address._obj.value = len(self.held) + 1
            self.held[len(self.held) + 1] = list(range(size // PAGE))
            return 0

    with pytest.raises(NotScrubbed, match="more than the card's 2000 MiB"):
        run(Endless(1000))


def test_the_card_is_found_by_its_id_among_others() -> None:
    driver = Driver(10, cards=(OTHER, UUID))
    assert scrub.find(driver, CARD).value == 1


@pytest.mark.parametrize("cards", [(OTHER,), ()])
def test_no_other_card_is_written_to(cards: tuple[bytes, ...]) -> None:
    driver = Driver(1000, cards=cards)
    with pytest.raises(NotScrubbed, match="does not show" if cards else "cuInit"):
        run(driver)
    assert driver.retained == driver.calls["cuMemAlloc_v2"] == 0


@pytest.mark.parametrize("gpu_id", ["MIG-00112233-4455-6677-8899-aabbccddeeff", "0", "SIM-0", ""])
def test_parts_of_a_card_are_refused_before_the_driver_is_asked(gpu_id: str) -> None:
    driver = Driver(10)
    with pytest.raises(NotScrubbed, match="no whole card"):
        scrub.find(driver, gpu_id)
    assert not driver.calls


@pytest.mark.parametrize("look", [True, False])
def test_says_in_one_line_what_it_did(
    look: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = Driver(200)
    monkeypatch.setattr(scrub, "load", lambda: driver)
    assert scrub.main(["--look", CARD] if look else [CARD]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done == {"overwritten": 0 if look else 100 * PAGE, "left": 0}
    assert driver.residue == (100 if look else 0)


def test_says_in_one_line_why_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scrub, "load", lambda: Driver(200, fail=("cuMemsetD8_v2", 0, 719)))
    assert scrub.main([CARD]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "problem": "cuMemsetD8_v2: CUDA_ERROR_SIMULATED (719); see dmesg"
    }


def test_a_library_that_is_not_there_and_one_that_is_too_old() -> None:
    with pytest.raises(NotScrubbed, match="cannot be loaded"):
        scrub.load("libcuda-of-no-machine.so")
    with pytest.raises(NotScrubbed, match="too old"):
        scrub.load("libc.so.6")


class TestAsAProcess:
    def program(self, tmp_path: Path, text: str) -> str:
        path = tmp_path / "program.py"
        path.write_text("import json, os, sys, time\n" + text)
        return str(path)

    def test_sees_one_card_and_no_secret(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TALLYSTICK_PROVIDER_KEY_FILE", "CANARY")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
        out = tmp_path / "seen"
        program = self.program(
            tmp_path,
            f"open({str(out)!r}, 'w').write(json.dumps([dict(os.environ), sys.argv[1:]]))\n"
            "print(json.dumps({'overwritten': 1, 'left': 0}))",
        )
        gpus.scrub_card(CARD, look=True, program=program)
        seen, arguments = json.loads(out.read_text())
        assert arguments == ["--look", CARD]
        assert seen["CUDA_VISIBLE_DEVICES"] == CARD
        assert "CANARY" not in seen.values()

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("print(json.dumps({'problem': 'the card is faulty'})); sys.exit(1)", "card is faulty"),
            ("sys.stderr.write('Segmentation fault'); sys.exit(139)", "139 Segmentation fault"),
            ("print('[1]')", "ended with 0"),
            ("print('{}')", "ended with 0"),
            ("", "ended with 0"),
            ("os.kill(os.getpid(), 9)", "ended with -9"),
            ("print(json.dumps({'overwritten': 1})); sys.exit(2)", "ended with 2"),
        ],
    )
    def test_whatever_it_does_but_say_so_is_not_scrubbed(
        self, text: str, why: str, tmp_path: Path
    ) -> None:
        with pytest.raises(GpuError, match=why):
            gpus.scrub_card(CARD, program=self.program(tmp_path, text))

    def test_one_that_hangs_is_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gpus, "SCRUB_SECONDS", 0.5)
        with pytest.raises(GpuError, match=r"not cleared within 0\.5 s"):
            gpus.scrub_card(CARD, program=self.program(tmp_path, "time.sleep(600)"))

    def test_a_machine_without_the_driver_refuses(self) -> None:
        try:
            ctypes.CDLL("libcuda.so.1")
        except OSError:
            with pytest.raises(GpuError, match="driver library cannot be loaded"):
                gpus.scrub_card(CARD)
        else:
            with pytest.raises(GpuError, match=CARD):  # no card has that id
                gpus.scrub_card(CARD)

    def test_calls_arrive_as_the_driver_declares_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Through ctypes and the loader, to a library with the driver's signatures in C."""
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler to build the stub of libcuda with")
        stub = Path(__file__).parent / "cuda_stub.c"
        library = tmp_path / "libcuda.so.1"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(stub)], check=True)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
        card = "GPU-" + "-".join("ab" * n for n in (4, 2, 2, 2, 6))
        ended = subprocess.run(
            [sys.executable, "-I", scrub.__file__, card], capture_output=True, check=False
        )
        assert json.loads(ended.stdout) == {"overwritten": 46 * MIB, "left": 0}
        gpus.scrub_card(card)
        gpus.scrub_card(card, look=True)
        with pytest.raises(GpuError, match=f"does not show {CARD}"):
            gpus.scrub_card(CARD)

    def test_imports_nothing_of_ours(self) -> None:
        text = Path(scrub.__file__).read_text()
        assert "tallystick" not in text
        assert sys.version_info >= (3, 11)
