"""Run: what was asked (config), what happened (history), how it was made (provenance).

A record is a run in one netCDF file, which any HDF5 reader opens.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from nascore.engine.space import Wiring, edge_name
from nascore.errors import ConfigError, DamagedRecord, RecordError, checked
from nascore.folders import whole_file
from nascore.runs.config import SearchConfig
from nascore.runs.data import SPLITS
from nascore.runs.history import (
    RANGES,
    History,
    count_active,
    most_probable,
    over_outcomes,
    probability_of_none,
)
from nascore.runs.provenance import PROVENANCE
from nascore.runs.seal import check_seal, seal

TOLD = ("config", "hash", "provenance")  # attributes of a record, as text


@checked
@dataclass(frozen=True, eq=False)
class Run:
    """One search: its config, its history and its provenance.

    >>> from nascore import SearchConfig, search
    >>> config = SearchConfig(dataset="synthetic", cells=1, channels=4, epochs=2)
    >>> run = search(config, progress=False)
    >>> run.wiring == run.wiring_at(epoch=2)
    True
    >>> run.output_cost.sel(split="train").sizes["epoch"]  # before training, after 1, after 2
    3
    >>> run.none_probability.dims
    ('epoch', 'edge')
    """

    config: SearchConfig
    history: xr.Dataset  # dims epoch, cell, edge, operation, split, outcome; not to change
    provenance: dict

    @property
    def wiring(self) -> Wiring:
        """The most probable wiring at the end."""
        return self.wiring_at(self.config.epochs)

    @checked
    def wiring_at(self, epoch: int) -> Wiring:
        """The most probable operation of every edge after an epoch; 0 is before training.

        In an exact tie, as before any learning with uniform masks, `none` comes last.
        Raises RecordError if alpha has diverged by then.
        """
        if not 0 <= epoch <= self.config.epochs:
            raise ConfigError(f"epoch {epoch}: this run has epochs 0 to {self.config.epochs}.")
        probability = self.history.probability.sel(epoch=epoch)
        if probability.isnull().any():
            raise RecordError(f"run {self.config.hash} has no wiring at epoch {epoch}: diverged.")
        names = self.config.space.operations
        return Wiring(self.config.space, tuple(names[k] for k in most_probable(probability)))

    @cached_property
    def diverged(self) -> bool:
        """Whether alpha, or the loss on the training set, is no number at the end."""
        loss = self.mean_loss.values[-1, SPLITS.index("train")]
        return bool(np.isnan(self.active_edges.values[-1]) or not np.isfinite(loss))

    @property
    def last_epoch(self) -> int:
        """The epoch in which the search ended: before the config's last one if it met a NaN."""
        return int(np.isfinite(self.history.seconds.values).sum()) - 1

    @cached_property
    def none_probability(self) -> xr.DataArray:
        """p(none), (epoch, edge): 0 if it is not a candidate, NaN where alpha has diverged."""
        return probability_of_none(self.history.probability)

    @cached_property
    def active_edges(self) -> xr.DataArray:
        """Number of edges that `none` does not win, (epoch,); NaN where alpha has diverged."""
        return count_active(self.history.probability)

    @cached_property
    def output_cost(self) -> xr.DataArray:
        """L - H, the cost at the output (T2), mean over examples in nats, (epoch, split)."""
        loss = self.history.loss
        return self._mean(loss.copy(data=loss.values - self.history.entropy.values))

    @cached_property
    def mean_loss(self) -> xr.DataArray:
        """L, mean over examples in nats, (epoch, split)."""
        return self._mean(self.history.loss)

    @cached_property
    def mean_entropy(self) -> xr.DataArray:
        """H, mean over examples in nats, (epoch, split)."""
        return self._mean(self.history.entropy)

    @property
    def accuracy(self) -> xr.DataArray:
        """Share of right answers, (epoch, split)."""
        examples = self.history.examples
        return examples.sel(outcome="right", drop=True) / examples.sum("outcome")

    def _mean(self, values: xr.DataArray) -> xr.DataArray:
        return over_outcomes(values, self.history.examples)

    def __str__(self) -> str:
        lines = [f"run {self.config.hash}", "", "config (what differs from the defaults)"]
        lines += [f"  {name} = {value}" for name, value in self.config.changes.items()]
        lines += ["", "epochs", "  epoch    loss     L-H  accuracy  active edges"]
        split = "train" if self.config.level == "single" else "search"
        curves = (self.mean_loss, self.output_cost, self.accuracy)
        columns = [curve.sel(split=split).values for curve in curves]
        for n in np.unique(np.linspace(0, self.config.epochs, 6).round().astype(int)):
            loss, cost, accuracy = (column[n] for column in columns)
            active = f"{self.active_edges.values[n]:12.0f}"
            lines.append(f"  {n:5d}  {loss:6.3f}  {cost:+6.3f}  {accuracy:8.3f}  {active}")
        if self.active_edges.isnull()[-1]:
            lines += ["", f"no final wiring: the run diverged in epoch {self.last_epoch}"]
        else:
            wiring, none = self.wiring, self.none_probability[-1].values
            lines += ["", f"final wiring ({len(wiring.active_edges)} active edges), p(none)"]
            for edge, name, p in zip(wiring.space.edges, wiring.operations, none, strict=True):
                lines.append(f"  {edge_name(edge)} {name:14s} {p:.2f}")
        lines += ["", "provenance"]
        *once, (_, parts) = self.provenance.items()
        lines += [f"  {name} = {value}" for name, value in once]
        for part in parts if len(parts) > 1 else ():
            lines.append(
                f"  from {part['started']} on for {part['wall_seconds']} s: {part['code']}"
            )
        return "\n".join(lines)

    @checked
    def save(self, path: str | Path) -> Path:
        """Writes one netCDF file, whole or not at all, and returns its path."""
        path = Path(path)
        told = {
            "config": self.config.model_dump_json(),
            "hash": self.config.hash,
            "provenance": json.dumps(self.provenance),
        }
        arrays = {name: variable.values for name, variable in self.history.variables.items()}
        record = self.history.assign_attrs(told, sha256=_digest(told, arrays))
        packed = {"zlib": True, "complevel": 5, "shuffle": True, "fletcher32": True}
        # One chunk each, in the newer format: the index of chunks would be a third of the file.
        encoding = {
            name: {**packed, "chunksizes": variable.shape}
            for name, variable in record.data_vars.items()
        }
        with whole_file(path) as part:
            latest = {"libver": "latest"}
            with xr.backends.H5NetCDFStore.open(part, "w", driver_kwds=latest) as store:
                record.dump_to_store(store, encoding=encoding)
            seal(part)
        return path

    @classmethod
    @checked
    def load(cls, path: str | Path) -> "Run":
        """Reads a file that ``save`` wrote.

        Raises DamagedRecord if it is not what was written, and RecordError if it is missing, cannot
        be read, or needs a plug-in that is not to be had.
        """
        path = Path(path)
        check_seal(path)
        try:
            with h5py.File(path) as file:  # xarray would take ten times as long
                told = {name: str(file.attrs[name]) for name in TOLD}
                arrays = {name: _values(dataset) for name, dataset in file.items()}
                if file.attrs["sha256"] != (digest := _digest(told, arrays)):
                    raise ValueError(f"its contents have the SHA-256 {digest}, not their own")
            config = _read_config(path, json.loads(told["config"]))
            provenance = json.loads(told["provenance"])
            if told["hash"] != config.hash:
                if own := ", ".join(config.plug_ins):
                    changed = f"{path}: the source of {own} has changed since."
                    raise RecordError(f"{changed} Undo that to read the record, or search again.")
                raise ValueError("its config does not have the hash that it was saved with")
            history = _checked_history(config, arrays)
            provenance = {name: provenance[name] for name in PROVENANCE}
        except (RecordError, MemoryError):
            raise
        except Exception as error:  # HDF5 raises many kinds for a damaged file
            raise DamagedRecord(f"{path} is not a whole record of a run ({error}).") from None
        return cls(config, history.to_xarray(), provenance)


def _digest(told: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of what a record tells, and of every array's name, type, shape and bytes."""
    digest = hashlib.sha256()
    for name in TOLD:
        digest.update(told[name].encode())
    for name, values in sorted(arrays.items()):
        values = values.astype("U") if values.dtype.kind == "O" else values
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _values(dataset: h5py.Dataset) -> np.ndarray:
    """The array of an HDF5 dataset; text as text."""
    return (dataset.asstr() if h5py.check_string_dtype(dataset.dtype) else dataset)[()]


def _checked_history(config: SearchConfig, arrays: Mapping[str, np.ndarray]) -> History:
    """The history of a config with these arrays, and coordinates as they must be.

    Raises ValueError if one is missing, not expected, of another form or out of its range.
    """
    extra = config.make_framework().recorded
    history = History(config.space, epochs=config.epochs, cells=config.cells, extra=extra)
    for name in arrays.keys() ^ {*history.arrays, *history.coordinates}:
        raise ValueError(f"{name} is {'not expected' if name in arrays else 'missing'}")
    for name, expected in history.coordinates.items():
        if not np.array_equal(arrays[name], expected):
            raise ValueError(f"{name} is {list(arrays[name])}")
    for name, expected in history.arrays.items():
        forms = [f"{values.dtype} {values.shape}" for values in (arrays[name], expected)]
        if forms[0] != forms[1]:
            raise ValueError(f"{name} is {forms[0]}, not {forms[1]}")
        low, high = RANGES.get(name, (-np.inf, np.inf))
        if (arrays[name] < low).any() or (arrays[name] > high).any():
            raise ValueError(f"{name} is not from {low:g} to {high:g}")
        expected[...] = arrays[name]
    return history


def _read_config(path: Path, fields: dict) -> SearchConfig:
    """The config in a record. Raises RecordError if a plug-in that it names is not to be had."""
    try:
        return SearchConfig(**fields)
    except ConfigError as error:
        named = [fields[name] for name in ("framework", "dataset", "norm")] + fields["operations"]
        if any(":" in name for name in named):
            raise RecordError(f"{path} is whole, but cannot be read here: {error}") from None
        raise
