"""Keep little memory that is free: allocators hold on to it, stage upon stage."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyarrow as pa

_M_ARENA_MAX = -8  # of glibc's malloc.h


def give_back() -> None:
    """Return what Arrow and the C library hold free; the latter where it can (glibc).

    Between stages only: it walks the whole heap.
    """
    pa.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def share_one_heap() -> None:
    """Let all threads of the process have one heap of the C library, where it can (glibc).

    By default each has its own, and each keeps what it has freed at its own peak: half a gigabyte
    after a model of 200,000 users was trained. To be called before threads are many.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


@contextmanager
def swept() -> Iterator[None]:
    """Objects that are made in this block and stand in cycles are gone after it.

    Those of before are not looked at: of a program with its libraries there are a million.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
