"""Folders: the project's own, and those that are checked before the work they are to keep."""

import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from nascore.errors import ConfigError, shown


def project_root(start: Path | None = None) -> Path:
    """The folder of the book's _config.yml, here or above. Raises ConfigError if there is none."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "_config.yml").exists() and (folder / "_toc.yml").exists():
            return folder
    raise ConfigError(f"no _config.yml and _toc.yml in {start} or above: run this in the project.")


def shipped_records(start: Path | None = None) -> Path | None:
    """The records that come with the book; None outside of its project."""
    try:
        folder = project_root(start) / "book" / "records"
    except ConfigError:
        return None
    return folder if folder.exists() else None


def ensure_writable(folder: Path, error: type[Exception], advice: str) -> Path:
    """Makes a folder if need be, and raises ``error`` with ``advice`` if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)
    except (OSError, ValueError) as problem:
        raise error(f"cannot write to {folder} ({_why(problem)}). {advice}") from None
    return folder


def ensure_writable_file(path: Path, error: type[Exception], advice: str) -> Path:
    """Raises ``error`` with ``advice`` if a whole file cannot be put at a path.

    Its folder is made if need be, and a file of this name is tried in it.
    """
    ensure_writable(path.parent, error, advice)
    wrong = None
    try:
        if path.exists() and not path.is_file():
            wrong = "it is a folder" if path.is_dir() else "it is no ordinary file"
        else:
            with TemporaryDirectory(dir=path.parent) as folder:
                (Path(folder) / path.name).touch()
    except (OSError, ValueError) as problem:
        wrong = _why(problem)
    if wrong is not None:
        raise error(f"cannot write {shown(str(path))} ({wrong}). {advice}")
    return path


def _why(problem: Exception) -> str:
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
    """Whether whoever wrote a part of a file is gone. Of another machine: after an hour."""
    _, host, pid, _, _ = part.name.rsplit(".", 4)
    if host == _HOST and not _is_alive(int(pid)):
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


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is someone else's
        return True
    return True
