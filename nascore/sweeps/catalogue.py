"""The catalogue: a table of folders of records, with whether each file is whole."""

import json
from collections.abc import Iterable, Mapping
from functools import partial
from operator import eq
from pathlib import Path
from typing import Annotated, Any

import h5py
import pandas as pd
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from nascore.errors import ConfigError, DamagedRecord, RecordError, explain, unknown
from nascore.runs.config import SearchConfig
from nascore.runs.seal import check_seal

MADE = ("started", "wall_seconds", "threads")  # of the provenance
COLUMNS = ("path", "state", "bytes", *SearchConfig.model_fields, *MADE)
DEFAULTS = {
    name: to_jsonable_python(field.get_default())
    for name, field in SearchConfig.model_fields.items()
}


def files(folders: Iterable[Path]) -> pd.DataFrame:
    """A row for each record of some folders, and for each that was set aside as damaged.

    The columns are the path, the state and the bytes of a file, every field of its config, every
    option of its framework, and how it was made. What is not known is NaN. The state is "whole";
    "unsealed", without a checksum at its end, because another program has written it again;
    "damaged"; or "unreadable".

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
    for path in paths:
        if path.suffix in (".nc", ".damaged"):
            told = _told(path) if path.suffix == ".nc" else {"state": "damaged"}
            yield {**told, "path": str(path), "bytes": path.stat().st_size}


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
