"""Seals: the SHA-256 of a record at its end, by which a damaged one is known before it is read."""

import hashlib
from pathlib import Path

from nascore.errors import DamagedRecord, RecordError

SEAL = b"\nSHA-256 of all before: "
SEALED = len(SEAL) + hashlib.sha256().digest_size  # bytes at the end of a record


def seal(path: Path) -> None:
    """Puts the SHA-256 of a file at its end."""
    content = path.read_bytes()
    path.write_bytes(content + SEAL + hashlib.sha256(content).digest())


def check_seal(path: Path) -> None:
    """Compares a file with the SHA-256 at its end. HDF5 may wait for ever over a damaged one.

    Raises DamagedRecord if they differ, and RecordError for what is no file or cannot be read.
    """
    if not path.exists():
        raise RecordError(f"{path}: no such file.")
    if not path.is_file():
        raise RecordError(f"{path} is not a file. Give the path of a record.")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from None
    content, end = raw[:-SEALED], raw[-SEALED:]
    if end != SEAL + hashlib.sha256(content).digest():
        why = "its SHA-256 is another" if end.startswith(SEAL) else "no SHA-256 is at its end"
        raise DamagedRecord(f"{path} is not a whole record of a run: {why}.")
