"""Give memory that is free back to the system: allocators keep it, stage upon stage."""

import ctypes
from contextlib import suppress

import pyarrow as pa


def give_back() -> None:
    """Return what Arrow and the C library hold free; the latter where it can (glibc).

    Between stages only: it walks the whole heap.
    """
    pa.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
