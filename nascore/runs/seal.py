"""Seals: the SHA-256 of a file at its end, by which a damaged one is known before it is read."""

import hashlib
from pathlib import Path

from nascore.errors import DamagedRecord, RecordError

SEAL = b"\nSHA-256 of all before: "
SEALED = len(SEAL) + hashlib.sha256().digest_size  # bytes at the end of a file


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
