"""The C library's memory, kept between the steps of a search."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # options of glibc's mallopt


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that it frees, from now on and until its end.

    A step on a CPU frees all its maps and the next one wants them again. By default the C library
    hands large blocks back to the system, which then clears every page anew: at the authors' shape,
    two fifths of a dense step. The process holds on to its peak instead.

    Returns whether that could be done: it needs glibc, and is not needed on a GPU.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))
