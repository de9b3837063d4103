"""The catalogue of folders of records: a table of their files, and whether each file is right."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import partial
from operator import eq
from pathlib import Path
from typing import Annotated, Any

import h5py
import pandas as pd
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from nascore.errors import ConfigError, DamagedRecord, RecordError, explain, unknown
from nascore.folders import shipped_records
from nascore.plugins import twelve_digits
from nascore.runs import checkpoint
from nascore.runs.config import SearchConfig
from nascore.runs.run import Run
from nascore.runs.seal import check_seal
from nascore.sweeps.store import RunStore

KINDS = {".nc": "record", ".checkpoint": "checkpoint", ".damaged": "damaged"}
"""Kinds of files by their suffix; "leftover" is any file that a RunStore has no more use for."""
MADE = ("started", "wall_seconds", "threads")  # of the provenance
COLUMNS = ("path", "kind", "state", "bytes", *SearchConfig.model_fields, *MADE)
DEFAULTS = {
    name: to_jsonable_python(field.get_default())
    for name, field in SearchConfig.model_fields.items()
}


def files(folders: Iterable[Path]) -> pd.DataFrame:
    """A row for each file of some folders; a file of no kind is left out.

    The columns are the path, the kind, the state and the bytes of a file, and for a record every
    field of its config, every option of its framework, and how it was made. What is not known is
    NaN. The state of a record is "whole"; "unsealed", without the file's checksum, because it was
    made before there was one, or written again by another program; "damaged"; or "unreadable".

    Raises RecordError if a folder cannot be read.
    """
    rows = [row for folder in folders for row in _rows(folder)]
    columns = dict.fromkeys(name for row in (COLUMNS, *rows) for name in row)
    return pd.DataFrame(rows, columns=list(columns), dtype=object)


def _rows(folder: Path) -> Iterable[dict[str, Any]]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise RecordError(f"{folder}: {error.strerror}. Give a folder of records.") from None
    leftovers = set(RunStore(folder).leftovers())
    for path in paths:
        kind = "leftover" if path in leftovers else KINDS.get(path.suffix)
        if kind is not None:
            told = _told(path) if kind == "record" else {}
            yield {**told, "path": str(path), "kind": kind, "bytes": _size(path)}


def _told(path: Path) -> dict[str, Any]:
    """The state of a record and what its attributes tell. HDF5 opens none whose seal is broken."""
    try:
        state = "whole" if check_seal(path) else "unsealed"
        with h5py.File(path, locking=False) as file:
            config, provenance = (json.loads(file.attrs[n]) for n in ("config", "provenance"))
        options = config.get("framework_options", {})
        if [*map(type, (config["framework"], options, provenance))] != [str, dict, dict]:
            raise TypeError("this is not a record of a run")
    except DamagedRecord:
        return {"state": "damaged"}
    except RecordError:
        return {"state": "unreadable"}
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError):
        return {"state": "damaged"}
    made = {name: provenance[name] for name in MADE if name in provenance}
    return {**options, **DEFAULTS, **config, **made, "state": state}


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 if it is gone."""
    try:
        return sum(map(_size, path.iterdir())) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


def select(table: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of ``files`` that have these values in these columns.

    Raises ConfigError for a name that is no column, or a value that the field cannot have.
    """
    for name, value in where.items():
        if name not in table:
            raise ConfigError(unknown("field", name, table.columns))
        same = table[name].map(partial(eq, _as_recorded(name, value)))
        table = table[same.astype(bool)]
    return table


def _as_recorded(name: str, value: Any) -> Any:
    """The value of a field in the form that it has in a record. Raises ConfigError."""
    if name not in SearchConfig.model_fields:
        return value
    field = SearchConfig.model_fields[name]
    adapter = TypeAdapter(
        Annotated[field.annotation, field], config=ConfigDict(allow_inf_nan=False)
    )
    try:
        return adapter.dump_python(adapter.validate_python(value), mode="json")
    except ValidationError as error:
        first, *_ = error.errors()
        raise ConfigError(explain({**first, "loc": (name,), "input": value}, name, ())) from None


def as_text(table: pd.DataFrame) -> str:
    """A line for each row, headed by its first column. What is not known is "-"."""
    first, *_ = table.columns
    return table.set_index(first).rename_axis(None).to_string(na_rep="-")


def as_json(table: pd.DataFrame) -> str:
    """An object for each row. What is not known is null."""
    known = table.astype(object).where(table.notna(), None)
    return json.dumps(known.to_dict("records"), indent=1)


def sizes(table: pd.DataFrame) -> pd.DataFrame:
    """How many files and bytes: by folder and kind, and of records by framework."""
    folder = table["path"].map(lambda path: str(Path(path).parent)).rename("folder")
    groups = table.groupby([folder, "kind", "framework"], dropna=False)["bytes"]
    return groups.agg(files="count", bytes="sum").reset_index()


def verify(path: Path) -> tuple[str, str]:
    """Reads a whole record or checkpoint. Returns its state, and why.

    The state is "whole", "bad", or "unknown" for a record that is what was written, but needs a
    plug-in that is not to be had here.
    """
    try:
        if path.suffix == ".checkpoint":
            address = checkpoint.load(path, torch.device("cpu")).get("address")
            hashes = [twelve_digits(address)] if isinstance(address, str) else []
        else:
            check_seal(path)
            try:
                config = Run.load(path).config
            except DamagedRecord:
                raise
            except RecordError as error:  # of a plug-in: nothing is wrong with the file
                return "unknown", str(error)
            hashes = [config.hash, config.old_hash]
    except RecordError as error:
        return "bad", str(error)
    named = re.search("-([0-9a-f]{12})$", path.stem)
    if not hashes or (named and named[1] not in hashes):
        return "bad", f"{path} is of another search than its name says."
    return "whole", ""


def is_shipped(folder: Path) -> bool:
    """Whether a folder is that of the records that come with the book, or in it."""
    shipped = shipped_records(folder)
    return shipped is not None and folder.resolve().is_relative_to(shipped)


def remove(table: pd.DataFrame) -> pd.DataFrame:
    """Removes the damaged files of a table, and what is left over in the folders of its leftovers.

    Returns the rows of what is gone: a leftover that a process has taken up again meanwhile stays.
    """
    paths = table["path"].map(Path)
    for folder in {path.parent for path in paths[table["kind"] == "leftover"]}:
        RunStore(folder).clean()
    for path in paths[table["kind"] == "damaged"]:
        path.unlink(missing_ok=True)
    return table.loc[[not os.path.lexists(path) for path in paths]]
