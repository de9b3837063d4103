"""Folders and files: the project's own, checks before the work, files that are whole or absent.

A sealed file ends with the SHA-256 of its content, so a damaged one is known before it is read.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryFile

from nascore.errors import DamagedRecord, RecordError

SEAL = b"\nSHA-256 of all before: "
SEALED = len(SEAL) + hashlib.sha256().digest_size  # bytes at the end of a file


def project_root() -> Path | None:
    """The folder of the book's _config.yml, here or above; None outside of its project."""
    above = (Path.cwd(), *Path.cwd().parents)
    roots = (f for f in above if (f / "_config.yml").exists() and (f / "_toc.yml").exists())
    return next(roots, None)


def shipped(path: str) -> Path:
    """A file or folder of the project that comes with the package, such as "book/records"."""
    package = Path(__file__).parent
    installed = package / "shipped" / path  # in a wheel; in a checkout it stands beside the package
    return installed if installed.exists() else package.parent / path


def ensure_writable(folder: Path, error: type[Exception], advice: str) -> None:
    """Makes a folder if need be, and raises ``error`` with ``advice`` if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"cannot write to {folder} ({reason}). {advice}") from None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write, which takes its place at ``path`` once it is whole and on disk, or never.

    It is written beside ``path``, as a ``.part`` that stays if the process is killed meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{token_hex(4)}.part")
    try:
        yield part
        _flush(part)
        os.replace(part, path)
        with suppress(OSError):  # some file systems cannot flush a folder
            _flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


def seal(path: Path) -> None:
    """Puts the SHA-256 of a file at its end."""
    digest = hashlib.sha256(path.read_bytes()).digest()
    with path.open("ab") as file:
        file.write(SEAL + digest)


def check_seal(path: Path) -> bytes:
    """The content of a file before its seal. HDF5 may wait for ever over a damaged one.

    Raises DamagedRecord if it does not fit its seal, and RecordError if it cannot be read.
    """
    if not path.is_file():  # to read a pipe may take for ever
        raise RecordError(f"there is no file {path}.")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from None
    content, end = raw[:-SEALED], raw[-SEALED:]
    if end != SEAL + hashlib.sha256(content).digest():
        why = "its SHA-256 is another" if end.startswith(SEAL) else "no SHA-256 is at its end"
        raise DamagedRecord(f"{path} is not whole: {why}.")
    return content


@contextmanager
def held(lock: Path, *, wait: bool = False) -> Iterator[bool]:
    """Holds a lock, and removes its file at the end; yields False if another process holds it.

    Every user who may write to its folder can hold it. The operating system gives it back if its
    owner dies.
    """
    from filelock import FileLock, Timeout  # which takes as long as all that --help needs

    file = FileLock(lock, mode=0o666)
    try:
        try:
            file.acquire(blocking=wait)
        except PermissionError:  # another user is making it, and its mode is not set yet
            time.sleep(0.1)
            file.acquire(blocking=wait)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.unlink(missing_ok=True)  # while it is held: who waits for it makes another
        file.release()


def _flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
