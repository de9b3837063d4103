"""Provenance: how a run was made."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from nascore.engine.cpu.memory import peak_memory


def provenance(device: torch.device, started: datetime, wall_seconds: float) -> dict:
    """How a run was made, as in a record: versions, device, time, peak memory of the process."""
    if device.type == "cuda":
        name, memory = torch.cuda.get_device_name(device), torch.cuda.max_memory_allocated(device)
    else:
        name = f"{platform.machine()}, {torch.get_num_threads()} thread(s)"
        memory = peak_memory()
    return {
        "nascore": version("nascore"),
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "device": f"{device.type} ({name})",
        "started": started.astimezone(UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(wall_seconds, 3),
        "peak_memory_mib": round(memory / 2**20),
    }


def commit() -> str | None:
    """The commit of the package's own checkout, "-dirty" if it has changes; None outside of one."""
    git = ["git", "-C", str(Path(__file__).parent)]
    tracked = [*git, "ls-files", "--error-unmatch", __file__]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        subprocess.run(tracked, check=True, capture_output=True)
        return subprocess.run(describe, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
