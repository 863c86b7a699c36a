import ctypes
import gc
import platform
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from tasks.memory import give_back, swept

SMALL = 100_000  # bytes; the C library keeps freed blocks of this size


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is not glibc"
)
# Allocates on four threads that live on, and tells of how many heaps.
THREADS = """
import ctypes, threading
from tasks import memory
if {shared}:
    memory.share_one_heap()
libc = ctypes.CDLL(None)
done, end = threading.Barrier(5), threading.Event()
def work():
    libc.malloc(10_000)
    done.wait()
    end.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for each in threads: each.start()
done.wait()
libc.fopen.restype = ctypes.c_void_p
told = libc.fopen(b"{path}", b"w")
libc.malloc_info(0, ctypes.c_void_p(told))
libc.fclose(ctypes.c_void_p(told))
end.set()
print(open("{path}").read().count("<heap "))
"""


@needs_glibc
def test_threads_share_one_heap(tmp_path: Path) -> None:
    def n_heaps(shared: bool) -> int:
        script = THREADS.format(shared=shared, path=tmp_path / "told.xml")
        command = [sys.executable, "-c", script]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert n_heaps(shared=True) <= 2  # an import has made a thread before
    assert n_heaps(shared=False) >= 5


@needs_glibc
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


class _Cycle:
    def __init__(self) -> None:
        self.me = self


def test_what_stands_in_cycles_is_gone_after_a_block_and_what_is_older_stays() -> None:
    gc.collect()
    gc.disable()
    try:
        before = weakref.ref(_Cycle())
        with swept():
            within = weakref.ref(_Cycle())
            gc.collect(1)  # it grows old
        assert within() is None
        assert before() is not None
        assert gc.get_freeze_count() == 0
    finally:
        gc.enable()
    gc.collect()
    assert before() is None


def test_a_block_that_fails_is_swept_too() -> None:
    with pytest.raises(ValueError, match="no"), swept():
        raise ValueError("no")
    assert gc.get_freeze_count() == 0
