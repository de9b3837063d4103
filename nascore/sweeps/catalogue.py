"""The catalogue of a folder of records: what is there, how large, whether whole, what may go.

To list records takes no torch and no arrays: a record's seal and its attributes say it all.
"""

import json
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock, Timeout
from pydantic import ConfigDict, TypeAdapter, ValidationError

from nascore.errors import ConfigError, DamagedRecord, RecordError, explain, unknown
from nascore.folders import shipped_records
from nascore.plugins import twelve_digits
from nascore.runs.config import SearchConfig
from nascore.runs.seal import check_seal

KINDS = ("records", "checkpoints", "damaged", "leftovers")
"""Files of a folder: records; states of searches; records that were set aside; and what killed
processes have left, which are parts of files and checkpoints beside whole records."""

_ADDRESS = r"-([0-9a-f]{12})"  # at the end of a name that a store gives
_PART = re.compile(r"tmp[a-z0-9_]{8}|\..+\.part|.+\.part\.\w+")
_HOUR = 3600.0  # s; what has not changed for so long, nobody is writing


@dataclass(frozen=True)
class Entry:
    """A record, as far as a list shows it.

    Arguments:
        path: its file.
        state: "whole"; "unsealed", without the file's checksum, because it was made before there
            was one, or written again by another program; "damaged"; or "unreadable".
        size: bytes.
        config: every field by its name; empty if it cannot be read.
        provenance: how it was made; empty if it cannot be read.
    """

    path: Path
    state: str
    size: int
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The hash in the file's name, or else all of it."""
        match = re.search(_ADDRESS + "$", self.path.stem)
        return match[1] if match else self.path.stem

    @property
    def age(self) -> float | None:
        """Seconds since the search was started; None if that is not known."""
        with suppress(KeyError, TypeError, ValueError):
            started = datetime.fromisoformat(self.provenance["started"])
            return (datetime.now(UTC) - started).total_seconds()
        return None

    def get(self, name: str) -> Any:
        """A field of the config or an option of its framework; None if it has none."""
        options = self.config.get("framework_options", {})
        return self.config.get(name, options.get(name))

    def to_json(self) -> dict[str, Any]:
        """All that is known, for scripts."""
        known = {"path": str(self.path), "state": self.state, "bytes": self.size}
        return {**known, "config": dict(self.config), "provenance": dict(self.provenance)}


def entries(folder: Path) -> Iterator[Entry]:
    """Every record of a folder, by name."""
    for path in paths(folder)["records"]:
        config, provenance = {}, {}
        try:
            state = "whole" if check_seal(path) else "unsealed"
            config, provenance = _attributes(path)
        except DamagedRecord:
            state = "damaged"
        except RecordError:
            state = "unreadable"
        yield Entry(path, state, size(path), config, provenance)


def _attributes(path: Path) -> tuple[dict, dict]:
    """Config and provenance of a record, without its arrays. Raises DamagedRecord."""
    import h5py

    try:
        with h5py.File(path, locking=False) as file:
            config, provenance = (json.loads(file.attrs[n]) for n in ("config", "provenance"))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedRecord(f"{path} is not a record of a run ({error}).") from None
    expected = [(config, dict), (provenance, dict)]
    if isinstance(config, dict) and isinstance(provenance, dict):
        expected += [(config.get("framework"), str), (config.get("framework_options", {}), dict)]
        expected += [(provenance.get("wall_seconds", 0), int | float)]
    if not all(isinstance(value, kind) for value, kind in expected):
        raise DamagedRecord(f"{path} is not a record of a run.")
    return config, provenance


def condition(name: str, value: Any) -> tuple[str, Any]:
    """A field and the value that records have to have, as a record says it. Raises ConfigError."""
    if name not in SearchConfig.model_fields:
        return name, value  # an option of a framework, or so we shall see
    field = SearchConfig.model_fields[name]
    adapter = TypeAdapter(
        Annotated[field.annotation, field], config=ConfigDict(allow_inf_nan=False)
    )
    try:
        return name, adapter.dump_python(adapter.validate_python(value), mode="json")
    except ValidationError as error:
        first, *_ = error.errors()
        raise ConfigError(explain({**first, "loc": (name,), "input": value}, name, ())) from None


def select(records: Iterable[Entry], where: Mapping[str, Any]) -> list[Entry]:
    """The records that meet every condition; one whose config cannot be read meets none.

    Raises ConfigError for a name that is no field and no option of these records.
    """
    records = list(records)
    options = {name for entry in records for name in entry.config.get("framework_options", {})}
    for name in where:
        if name not in (known := {*SearchConfig.model_fields, *options}):
            raise ConfigError(unknown("field", name, known))
    return [
        entry
        for entry in records
        if all(entry.config and entry.get(name) == value for name, value in where.items())
    ]


def paths(folder: Path) -> dict[str, list[Path]]:
    """The files of a folder by their kind, one of KINDS; what is of no kind is left out.

    Raises RecordError if the folder cannot be read.
    """
    found: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    try:
        everything = sorted(folder.iterdir())
    except OSError as error:
        raise RecordError(f"{folder}: {error.strerror}. Give a folder of records.") from None
    names = {path.name for path in everything}
    for path in everything:
        if _PART.fullmatch(path.name) or re.search(_ADDRESS + r"\.lock$", path.name):
            found["leftovers"].append(path)
        elif path.suffix == ".checkpoint":
            done = path.with_suffix(".nc").name in names
            found["leftovers" if done else "checkpoints"].append(path)
        elif path.suffix in (".nc", ".damaged"):
            found["records" if path.suffix == ".nc" else "damaged"].append(path)
    return found


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 if it is gone."""
    try:
        return sum(map(size, path.iterdir())) if path.is_dir() else path.stat().st_size
    except FileNotFoundError:
        return 0


def verify(path: Path) -> tuple[str, str]:
    """Reads a whole record or checkpoint. Returns its state, and why.

    The state is "whole", "bad", or "unknown" for a record that is what was written, but needs a
    plug-in that is not to be had here.
    """
    try:
        return _verify_checkpoint(path) if path.suffix == ".checkpoint" else _verify_record(path)
    except RecordError as error:
        return "bad", str(error)


def _verify_record(path: Path) -> tuple[str, str]:
    from nascore.runs.run import Run

    check_seal(path)
    try:
        run = Run.load(path)
    except DamagedRecord:
        if _has_no_checksum(path):
            return "bad", f"{path} was made before records had a checksum. Search again."
        raise
    except RecordError as error:  # of a plug-in: nothing is wrong with the file
        return "unknown", str(error)
    address = re.search(_ADDRESS + "$", path.stem)
    if address and address[1] not in (run.config.hash, run.config.old_hash):
        return "bad", f"{path} holds a run of another config, {run.config.hash}."
    return "whole", ""


def _has_no_checksum(path: Path) -> bool:
    import h5py

    try:
        with h5py.File(path, locking=False) as file:
            return "config" in file.attrs and "sha256" not in file.attrs
    except (OSError, RuntimeError):
        return False


def _verify_checkpoint(path: Path) -> tuple[str, str]:
    import torch

    from nascore.runs import checkpoint as checkpoints

    found = checkpoints.load(path, torch.device("cpu")).get("address")
    address = re.search(_ADDRESS + "$", path.stem)
    if not isinstance(found, str) or (address and address[1] != twelve_digits(found)):
        return "bad", f"{path} is of another search than its name says. Delete it to start anew."
    return "whole", ""


def but_seed(config: Mapping[str, Any]) -> str:
    """A config as text that is the same for every seed."""
    fields = SearchConfig.model_fields.items()
    defaults = {name: field.get_default() for name, field in fields}
    return json.dumps({**defaults, **config, "seed": None}, sort_keys=True)


def sizes(
    folder: Path, experiments: Mapping[str, Collection[str]]
) -> dict[str, dict[str, tuple[int, int]]]:
    """Files and bytes of a folder: by kind, and of its records by framework and by experiment.

    Arguments:
        experiments: the names of those that need a config, by ``but_seed``. A record that two of
            them share counts in both.
    """
    groups: dict[str, dict[str, list[int]]] = {"kind": {kind: [] for kind in KINDS}}
    groups |= {"framework": {}, "experiment": {}}
    for kind, files in paths(folder).items():
        groups["kind"][kind] += map(size, files)
    for entry in entries(folder):
        framework, names = entry.state, [entry.state]
        if entry.config:
            framework = entry.config["framework"]
            names = experiments.get(but_seed(entry.config), ["of none"])
        groups["framework"].setdefault(framework, []).append(entry.size)
        for name in names:
            groups["experiment"].setdefault(name, []).append(entry.size)
    return {
        group: {name: (len(files), sum(files)) for name, files in members.items()}
        for group, members in groups.items()
    }


def removable(
    folder: Path,
    *,
    damaged: bool = False,
    leftovers: bool = False,
    experiments: Collection[str] | None = None,
) -> list[Path]:
    """The files of a folder that may be removed. What a process is at just now is left out.

    Arguments:
        damaged: records that were set aside.
        leftovers: parts of files and locks, and checkpoints beside whole records.
        experiments: the configs that are needed, by ``but_seed``; whole records of other configs
            may be removed. None keeps them all.

    Raises ConfigError for the folder of the records that come with the book.
    """
    shipped = shipped_records(folder)
    if shipped is not None and folder.resolve().is_relative_to(shipped):
        raise ConfigError(f"{folder} comes with the book: nothing is removed there.")
    found = paths(folder)
    chosen = found["damaged"] if damaged else []
    if leftovers:
        chosen += [path for path in found["leftovers"] if not _is_needed(path)]
    if experiments is not None:
        for entry in entries(folder):
            if entry.state == "whole" and but_seed(entry.config) not in experiments:
                chosen.append(entry.path)
    return [path for path in chosen if not _in_use(path)]


def _is_needed(path: Path) -> bool:
    """Whether this is a checkpoint whose record is not whole."""
    try:
        return path.suffix == ".checkpoint" and not check_seal(path.with_suffix(".nc"))
    except RecordError:
        return True


def _in_use(path: Path) -> bool:
    """Whether a process may be at a file: it holds its lock, or has just written a part of it."""
    with suppress(FileNotFoundError):
        if _PART.fullmatch(path.name):
            return time.time() - path.stat().st_mtime < _HOUR
        lock = path.with_suffix(".lock")
        if lock.exists():
            try:
                with FileLock(lock, blocking=False):
                    return False
            except Timeout:
                return True
    return False


def remove(files: Iterable[Path]) -> None:
    """Removes files, and folders with all that is in them. Raises RecordError."""
    for path in files:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise RecordError(f"{path} cannot be removed: {error.strerror}.") from None


def listing(records: Iterable[Entry]) -> str:
    """Records as a table, one a line. What is not known of one is "-"."""
    columns = {"record": "<", "framework": "<", "level": "<", "dataset": "<", "seed": ">"}
    columns |= {"epochs": ">", "size": ">", "age": ">", "time": ">", "threads": ">", "state": "<"}
    fields = ("framework", "level", "dataset", "seed", "epochs")
    rows = []
    for entry in records:
        wall, threads = map(entry.provenance.get, ("wall_seconds", "threads"))
        row = [entry.name, *map(entry.get, fields), in_bytes(entry.size)]
        rows.append([*row, _in_time(entry.age), _in_time(wall), threads, entry.state])
    return table(columns, rows)


def table(columns: Mapping[str, str], rows: Iterable[Iterable[Any]]) -> str:
    """Rows under headings.

    Arguments:
        columns: by heading, "<" for words and ">" for numbers.
        rows: a cell for each column, None for what is not known.
    """
    texts = [[*columns], *(["-" if cell is None else str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    forms = [f"{{:{side}{width}}}" for side, width in zip(columns.values(), widths, strict=True)]
    return "\n".join("  ".join(forms).format(*row).rstrip() for row in texts)


def in_bytes(number: float) -> str:
    """Such as 56 kB.

    >>> in_bytes(999), in_bytes(56_240), in_bytes(1_234_567)
    ('999 B', '56 kB', '1.2 MB')
    """
    for unit in ("B", "kB", "MB"):
        if number < 999.5:
            return f"{number:.1f} {unit}" if unit == "MB" else f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def _in_time(seconds: float | None) -> str | None:
    """Such as 3 d, 5 h, 12 min or 40 s.

    >>> _in_time(40), _in_time(150), _in_time(86400)
    ('40 s', '2 min', '24 h')
    """
    if seconds is None:
        return None
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
