import ctypes
import platform
from pathlib import Path

import pytest

from tasks.memory import give_back

SMALL = 100_000  # bytes; the C library keeps freed blocks of this size


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_is_free_goes_back_to_the_system() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [libc.malloc(SMALL) for _ in range(2000)]
    for block in blocks:
        ctypes.memset(block, 1, SMALL)
    for block in blocks[:-1]:  # the last one keeps the heap from shrinking
        libc.free(block)
    before = resident_mb()
    give_back()
    assert resident_mb() < before - 100
    libc.free(blocks[-1])
