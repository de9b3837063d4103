"""Provenance: how a run was made."""

import hashlib
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from nascore.fast.memory import peak_memory

PACKAGE = Path(__file__).parents[1]

PROVENANCE = (
    *("nascore", "commit", "code", "torch", "python", "system", "device", "threads"),
    *("started", "wall_seconds", "peak_memory_mib", "parts"),
)
"""What every record says of how it was made."""


def maker(device: torch.device) -> dict[str, Any]:
    """What makes numbers here: versions, device and threads. Equal makers make equal bits."""
    threads = torch.get_num_threads()
    cuda, host = device.type == "cuda", f"{platform.machine()}, {threads} thread(s)"
    name = torch.cuda.get_device_name(device) if cuda else host
    return {
        "nascore": version("nascore"),
        "commit": commit(),
        "code": code(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "system": platform.system(),
        "device": f"{device.type} ({name})",
        "threads": threads,
    }


def part(device: torch.device, started: datetime, wall_seconds: float) -> dict[str, Any]:
    """How a part of a run was made, in one process: its maker, when and how long."""
    when = started.astimezone(UTC).isoformat(timespec="seconds")
    return {**maker(device), "started": when, "wall_seconds": round(wall_seconds, 3)}


def provenance(parts: Sequence[dict[str, Any]], device: torch.device) -> dict[str, Any]:
    """How a run was made, as in a record.

    That is the maker of its last part, when the first one started, the time of all of them, the
    peak memory of this process, and what each part was made by.
    """
    cuda = device.type == "cuda"
    memory = torch.cuda.max_memory_allocated(device) if cuda else peak_memory()
    return {
        **parts[-1],
        "started": parts[0]["started"],
        "wall_seconds": round(sum(part["wall_seconds"] for part in parts), 3),
        "peak_memory_mib": round(memory / 2**20),
        "parts": list(parts),
    }


@cache
def code() -> str:
    """Twelve hexadecimal digits of the source that computes a search.

    Of the book, of theorems and claims nothing is in it: they look at runs, and make none.
    """
    digest = hashlib.sha256()
    for folder in ("fast", "engine", "frameworks", "runs"):
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(PACKAGE).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def commit() -> str | None:
    """The commit of the package's own checkout, "-dirty" if it has changes; None outside of one."""
    git = ["git", "-C", str(PACKAGE)]
    tracked = [*git, "ls-files", "--error-unmatch", __file__]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        subprocess.run(tracked, check=True, capture_output=True)
        return subprocess.run(describe, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
