"""RunStore: a folder of records, each under the hash of its config; a table of such folders."""

import json
import re
import time
import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from nascore.errors import DamagedRecord, RecordError, checked
from nascore.folders import check_seal, ensure_writable, held
from nascore.runs.config import SearchConfig
from nascore.runs.history import most_probable
from nascore.runs.run import Run


@checked
class RunStore:
    """A folder of records, each under the hash of its config. What was read once is kept in memory.

    Arguments:
        folder: made when the first record is put in.
        shipped: another folder that is looked in, too, and never written to.

    >>> config = SearchConfig(dataset="synthetic")
    >>> RunStore("runs").get(config) is None
    True
    >>> RunStore("runs").path(config).name
    'dsnas-single-synthetic-seed0-6190f91fa692.nc'
    """

    def __init__(self, folder: str | Path, shipped: str | Path | None = None):
        self.folder = Path(folder)
        self._folders = [self.folder] if shipped is None else [self.folder, Path(shipped)]
        self._read: dict[tuple, Run] = {}  # by path, time of the last change and size

    def path(self, config: SearchConfig) -> Path:
        """Where the record of a config is kept: its name is for people, its hash is the address."""
        framework, dataset = config.framework[-24:], config.dataset[-24:]
        words = f"{framework}-{config.level}-{dataset}-seed{config.seed}"
        words = re.sub(r"[^\w.-]", "_", words.replace(":", "."), flags=re.ASCII)
        return self.folder / f"{words}-{config.hash}.nc"

    def checkpoint(self, config: SearchConfig) -> Path:
        """Where a search of this config keeps its state until its record is in the store."""
        return self.path(config).with_suffix(".checkpoint")

    @checked
    def get(self, config: SearchConfig) -> Run | None:
        """The run of a config, here or among the shipped ones; None if there is none.

        Warns of a damaged record, which counts as missing. Raises RecordError for one that cannot
        be read.
        """
        for path in (folder / self.path(config).name for folder in self._folders):
            if not path.exists():
                continue
            key = path, path.stat().st_mtime_ns, path.stat().st_size
            try:
                run = self._read[key] = self._read.get(key) or Run.load(path)
            except DamagedRecord as error:
                warnings.warn(f"{error} It counts as missing.", stacklevel=2)
                continue
            if run.config.hash == config.hash:
                return run
            warnings.warn(f"{path} holds a run of another config.", stacklevel=2)
        return None

    @checked
    def put(self, run: Run) -> Path:
        """Keeps a run, and removes the checkpoint that it came from."""
        path = run.save(self.path(run.config))
        self.checkpoint(run.config).unlink(missing_ok=True)
        return path

    def claim(self, config: SearchConfig) -> AbstractContextManager[bool]:
        """Makes a search ours, for all processes that use this folder; yields whether it is."""
        return held(self.path(config).with_suffix(".lock"))

    def prepare(self) -> None:
        """To be called before the work: raises RecordError if records cannot be put here.

        Removes what killed processes left: locks, checkpoints beside a record, parts of files. What
        a live process is at stays, so a part stays for an hour.
        """
        ensure_writable(self.folder, RecordError, "Choose another folder for the records.")
        for path in self.folder.glob("*-seed*-????????????.*"):
            with suppress(OSError, RecordError):  # it has just gone, or its record is not whole
                if path.suffix == ".part" and time.time() - path.stat().st_mtime > 3600:
                    path.unlink()
                elif path.suffix in (".lock", ".checkpoint"):
                    with held(path.with_suffix(".lock")) as free:
                        if free:
                            check_seal(path.with_suffix(".nc"))
                            path.with_suffix(".checkpoint").unlink()


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
