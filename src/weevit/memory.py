"""Free memory that the C library keeps for this process."""

from __future__ import annotations

import ctypes

LARGE = 1 << 20
"""Size from which a block is mapped by itself, and returned to the system when it is freed."""

_M_MMAP_THRESHOLD = -3


def keep_flat() -> None:
    """Return freed blocks from `LARGE` on to the system, for this process and for good (glibc).

    glibc begins so, and raises the limit to the largest block that was ever freed: decoded images then lie in the heaps
    of all threads, and leave holes there. Measured over 2,500 images: 150 MB, as over 500. Half of that limit would map
    every small photo again, 1 % of a job's time.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
    except (AttributeError, OSError, TypeError):  # as below
        return


def give_back() -> None:
    """Return free memory to the system, where the C library can (glibc); takes 1 or 2 ms.

    glibc keeps freed memory in the middle of a heap: after a graph was loaded, about the size of the graph. Free memory
    at the end of a thread's heap stays there all the same.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or Windows, which refuses `None`
        return
    trim(0)
