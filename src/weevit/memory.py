"""Memory that is free, but that the C library keeps for this process."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Hand it back to the system, where the C library can be told to (glibc); takes 1 or 2 ms.

    glibc keeps what was freed in the middle of a heap: after a graph was loaded, about as much as the graph takes. What
    lies free at the end of a thread's heap stays there all the same.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; on Windows there is no `None`
        return
    trim(0)
