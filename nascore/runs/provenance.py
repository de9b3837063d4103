"""Provenance: how a run was made."""

import hashlib
import platform
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from nascore.fast.memory import peak_memory
from nascore.version import __version__

PACKAGE = Path(__file__).parents[1]


class Maker:
    """How a run is made: by this process from now on, ``before`` by the makers of other parts.

    The source is looked at here, before the work: it may change while a search runs.
    """

    def __init__(self, device: torch.device, before: Sequence[dict[str, Any]] = ()):
        self.device, self.before = device, before
        self.source = {"nascore": __version__, "commit": commit(), "code": code()}
        self.started, self.clock = datetime.now(UTC), time.perf_counter()

    def parts(self) -> list[dict[str, Any]]:
        """What made each part, when and how long. Equal makers make equal bits."""
        threads = torch.get_num_threads()
        name = f"{platform.machine()}, {threads} thread(s)"
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        part = {
            **self.source,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "system": platform.system(),
            "device": f"{self.device.type} ({name})",
            "threads": threads,
            "started": self.started.isoformat(timespec="seconds"),
            "wall_seconds": round(time.perf_counter() - self.clock, 3),
        }
        return [*self.before, part]

    def provenance(self) -> dict[str, Any]:
        """How the run was made, as in a record: its last part, but start and time of all of them.

        The peak memory is that of this process.
        """
        parts, cuda = self.parts(), self.device.type == "cuda"
        memory = torch.cuda.max_memory_allocated(self.device) if cuda else peak_memory()
        return {
            **parts[-1],
            "started": parts[0]["started"],
            "wall_seconds": round(sum(part["wall_seconds"] for part in parts), 3),
            "peak_memory_mib": round(memory / 2**20),
            "parts": parts,
        }


@cache
def code() -> str:
    """Twelve hexadecimal digits of the source that computes a search, not of what reads runs."""
    digest = hashlib.sha256()
    for folder in ("fast", "engine", "frameworks", "runs"):
        for path in sorted((PACKAGE / folder).glob("*.py")):
            digest.update(f"{folder}/{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def commit() -> str | None:
    """The commit of the package's own checkout, "-dirty" if it has changes; None outside of one."""
    git = ["git", "-C", str(PACKAGE)]
    tracked = [*git, "ls-files", "--error-unmatch", __file__]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        subprocess.run(tracked, check=True, capture_output=True)
        return subprocess.run(describe, check=True, capture_output=True).stdout.decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return None
