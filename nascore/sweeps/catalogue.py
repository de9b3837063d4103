"""The catalogue: a table of folders of records."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from nascore.errors import DamagedRecord, RecordError
from nascore.runs.history import most_probable
from nascore.runs.seal import check_seal


def table(folders: Iterable[Path]) -> pd.DataFrame:
    """A row for each record of some folders: path, state, bytes, its config and its provenance.

    The state is "whole", "damaged" or "unreadable"; the device is that on which it ran. What is not
    known is NaN. Of a whole record two texts are read, and nothing that it names is looked up.

    Raises RecordError if a folder cannot be read.
    """
    rows = []
    for folder in folders:
        try:
            paths = [path for path in sorted(folder.iterdir()) if path.suffix == ".nc"]
        except OSError as error:
            raise RecordError(f"{folder}: {error.strerror}. Give a folder of records.") from None
        rows += [{"path": str(p), "bytes": p.stat().st_size, **_texts(p)} for p in paths]
    return pd.DataFrame(rows, columns=None if rows else ["path", "bytes", "state"], dtype=object)


def _texts(path: Path) -> dict[str, Any]:
    """The state of a record, the fields of its config and its provenance."""
    try:
        check_seal(path)
        with h5py.File(path, locking=False) as file:
            config, provenance = (json.loads(file.attrs[name]) for name in ("config", "provenance"))
    except DamagedRecord:
        return {"state": "damaged"}
    except (RecordError, OSError, KeyError, ValueError):  # not ours, though it may be sealed
        return {"state": "unreadable"}
    return {"state": "whole", **config, **provenance}


def final_wiring(path: str) -> dict[str, str] | None:
    """The operation of each edge, of a whole record as in ``Run.wiring``; None if it diverged."""
    with h5py.File(path, locking=False) as file:
        if "chosen" in file.attrs:
            return dict(part.rsplit(" ", 1) for part in file.attrs["chosen"].split("; "))
        edges, operations = (file[name].asstr()[()] for name in ("edge", "operation"))
        probability = file["probability"][-1]
    if np.isnan(probability).any():
        return None
    return dict(zip(edges, operations[most_probable(probability, operations)], strict=True))
