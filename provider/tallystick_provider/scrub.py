"""Overwrites the free memory of one card: what its last tenant left there is gone.

    python -I scrub.py [--look] GPU-<uuid>

A file of its own that imports nothing of ours: it runs as a separate short process, so that the
agent itself never holds a CUDA context. Through the driver's own library (libcuda) it takes all
memory that is free, in chunks that get smaller until none fits, writes zeros over it, reads samples
back and frees it. `--look` stops before memory is touched. The answer is one line of JSON.

What it cannot reach: the few hundred MiB that the driver gives to this process's own context.
"""

from __future__ import annotations

import ctypes
import json
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

MIB = 1024 * 1024
LARGEST_CHUNK = 1024 * MIB
SMALLEST_CHUNK = 2 * MIB
"""The driver gives out memory in pages of this size."""
LEFT_MAX = 64 * MIB
"""Free memory that may stay out of reach, in pieces smaller than the smallest chunk."""
SAMPLE_BYTES = 4096
SUCCESS, OUT_OF_MEMORY = 0, 2

SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetUuid_v2": (POINTER(c_ubyte * 16), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxSynchronize": (),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemsetD8_v2": (c_uint64, c_ubyte, c_size_t),
    "cuMemcpyDtoH_v2": (c_void_p, c_uint64, c_size_t),
}


class NotScrubbed(Exception):
    """The card's memory was not overwritten; says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Scrubbed:
    overwritten_bytes: int
    left_bytes: int
    """Still free and not overwritten."""


def main(arguments: list[str]) -> int:
    look = "--look" in arguments
    gpu_id = arguments[-1]
    try:
        cuda = load()
        device = find(cuda, gpu_id)
        done = Scrubbed(0, 0) if look else scrub(cuda, device)
    except NotScrubbed as error:
        print(json.dumps({"problem": str(error)}))
        return 1
    print(json.dumps({"overwritten": done.overwritten_bytes, "left": done.left_bytes}))
    return 0


def load(name: str = "libcuda.so.1") -> Any:
    try:
        cuda = ctypes.CDLL(name)
        for function, arguments in SIGNATURES.items():
            getattr(cuda, function).argtypes = arguments
            getattr(cuda, function).restype = c_int
    except OSError as error:
        raise NotScrubbed(
            f"CUDA's driver library cannot be loaded ({error}); install the NVIDIA driver with "
            "its compute part"
        ) from None
    except AttributeError as error:
        raise NotScrubbed(f"the NVIDIA driver is too old ({error}); 510 or later") from None
    return cuda


def find(cuda: Any, gpu_id: str) -> c_int:
    """The one device with this id: nothing else is ever written to."""
    if not gpu_id.startswith("GPU-"):
        raise NotScrubbed(f"{gpu_id!r} is no whole card; parts of a card (MIG) are not offered")
    _call(cuda, "cuInit", 0)
    count = c_int()
    _call(cuda, "cuDeviceGetCount", byref(count))
    shown = []
    for ordinal in range(count.value):
        device, uuid = c_int(), (c_ubyte * 16)()
        _call(cuda, "cuDeviceGet", byref(device), ordinal)
        _call(cuda, "cuDeviceGetUuid_v2", byref(uuid), device)
        shown.append(_id_of(bytes(uuid)))
        if shown[-1] == gpu_id.lower():
            return device
    raise NotScrubbed(
        f"CUDA does not show {gpu_id} ({', '.join(shown) or 'it shows none'}); is MIG on, or a "
        "driver update waiting for a restart?"
    )


def scrub(cuda: Any, device: c_int) -> Scrubbed:
    context = c_void_p()
    _call(cuda, "cuDevicePrimaryCtxRetain", byref(context), device)
    try:
        _call(cuda, "cuCtxSetCurrent", context)
        held: list[tuple[c_uint64, int]] = []
        try:
            _take_all(cuda, held)
            left_bytes = _memory(cuda)[0]
            if left_bytes > LEFT_MAX:
                raise NotScrubbed(
                    f"{left_bytes // MIB} MiB are free and cannot be had, {LEFT_MAX // MIB} are "
                    "borne; see nvidia-smi, and reset the card"
                )
            for address, size in held:
                _call(cuda, "cuMemsetD8_v2", address, 0, size)
            _call(cuda, "cuCtxSynchronize")
            for address, size in held:
                _require_zero(cuda, address.value)
                _require_zero(cuda, address.value + size - SAMPLE_BYTES)
        finally:
            for address, _ in held:
                cuda.cuMemFree_v2(address)  # what fails to be freed ends with this process
    finally:
        cuda.cuDevicePrimaryCtxRelease_v2(device)
    return Scrubbed(sum(size for _, size in held), left_bytes)


def _take_all(cuda: Any, held: list[tuple[c_uint64, int]]) -> None:
    """Fills `held`, so that the caller can free also what an error cut short."""
    total = _memory(cuda)[1]
    size = LARGEST_CHUNK
    while size >= SMALLEST_CHUNK:
        address = c_uint64()
        result = cuda.cuMemAlloc_v2(byref(address), size)
        if result == OUT_OF_MEMORY:
            size //= 2
            continue
        if result != SUCCESS:
            raise _failed(cuda, "cuMemAlloc_v2", result)
        held.append((address, size))
        if sum(size for _, size in held) > total:
            raise NotScrubbed(f"the driver gives out more than the card's {total // MIB} MiB")


def _memory(cuda: Any) -> tuple[int, int]:
    """Free and total, in bytes."""
    free, total = c_size_t(), c_size_t()
    _call(cuda, "cuMemGetInfo_v2", byref(free), byref(total))
    return free.value, total.value


def _require_zero(cuda: Any, address: int) -> None:
    sample = (c_ubyte * SAMPLE_BYTES)(*[255] * SAMPLE_BYTES)
    _call(cuda, "cuMemcpyDtoH_v2", sample, c_uint64(address), SAMPLE_BYTES)
    if any(sample):
        raise NotScrubbed("memory that was overwritten does not read as zero; the card is faulty")


def _call(cuda: Any, function: str, *arguments: Any) -> None:
    result = getattr(cuda, function)(*arguments)
    if result != SUCCESS:
        raise _failed(cuda, function, result)


def _failed(cuda: Any, function: str, result: int) -> NotScrubbed:
    name = c_char_p()
    cuda.cuGetErrorName(result, byref(name))
    return NotScrubbed(f"{function}: {(name.value or b'error').decode()} ({result}); see dmesg")


def _id_of(uuid: bytes) -> str:
    text = uuid.hex()
    return f"gpu-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
