"""Folders that are written to: checked before the work whose results they are to keep."""

from pathlib import Path


def ensure_writable(folder: Path, error: type[Exception], advice: str) -> Path:
    """Makes a folder if need be, and raises ``error`` with ``advice`` if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as problem:
        raise error(f"cannot write to {folder} ({problem.strerror}). {advice}") from None
    return folder
