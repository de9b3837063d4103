"""Folders and files: the project's own, checks before the work, files that are whole or absent."""

import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory, TemporaryFile

import psutil

from nascore.errors import shown


def project_root() -> Path | None:
    """The folder of the book's _config.yml, here or above; None outside of its project."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "_config.yml").exists() and (folder / "_toc.yml").exists():
            return folder
    return None


def ensure_writable(folder: Path, error: type[Exception], advice: str) -> Path:
    """Makes a folder if need be, and raises ``error`` with ``advice`` if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except (OSError, ValueError) as problem:
        raise error(f"cannot write to {folder} ({_reason(problem)}). {advice}") from None
    return folder


def ensure_writable_file(path: Path, error: type[Exception], advice: str) -> Path:
    """Raises ``error`` with ``advice`` if no file can be put at a path. Makes its folder."""
    folder = ensure_writable(path.parent, error, advice)
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")
        with TemporaryDirectory(dir=folder) as probe:
            (Path(probe) / path.name).touch()  # fails if the name is too long
    except (OSError, ValueError) as problem:
        raise error(f"cannot write {shown(str(path))} ({_reason(problem)}). {advice}") from None
    return path


def _reason(problem: Exception) -> str:
    return getattr(problem, "strerror", None) or str(problem)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write, which takes its place at ``path`` once it is whole and on disk, or never.

    It is written beside ``path``. If the process is killed meanwhile, it stays: see ``abandoned``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.{token_hex(4)}.part")
    try:
        yield part
        _flush(part)
        os.replace(part, path)
        with suppress(OSError):  # some file systems cannot flush a folder
            _flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


def abandoned(part: Path) -> bool:
    """Whether the writer of a part of a file is gone. On another machine: after an hour."""
    _, host, pid, _, _ = part.name.rsplit(".", 4)
    if host == _HOST and not psutil.pid_exists(int(pid)):
        return True
    try:
        return time.time() - part.stat().st_mtime > 3600
    except FileNotFoundError:  # it has taken its place just now
        return False


_HOST = re.sub(r"\W", "-", platform.node())  # in the name of a part, which dots divide


def _flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
