"""The memory of this process: kept between the steps of a search, and its peak."""

import ctypes
import resource
import sys
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # options of glibc's mallopt


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that it frees, from now on and until its end.

    A step on a CPU frees all its activations and the next one wants them again. By default the C
    library hands large blocks back to the system, which then clears every page again: at the
    authors' shape a tenth of a step. Returns whether that could be done: it needs glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))


def peak_memory() -> int:
    """The most bytes of memory that this process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: getrusage counts what the process that started this one held, too
        lines = dict(line.split(b":", 1) for line in status.read_bytes().splitlines())
        return int(lines[b"VmHWM"].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
