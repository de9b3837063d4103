"""Run: what was asked (config), what happened (history), how it was made (provenance).

A record is a run in one netCDF file, which any HDF5 reader opens. Reading one needs no torch.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from nascore.engine.space import Wiring, edge_name
from nascore.errors import ConfigError, RecordError, checked, one_line, printable
from nascore.folders import check_seal, seal, whole_file
from nascore.runs.config import SearchConfig
from nascore.runs.history import SPLITS, VARIABLES, History, most_probable, over_outcomes


@checked
@dataclass(frozen=True, eq=False)
class Run:
    """One search: its config, its history, its provenance and the wiring that was chosen.

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
    chosen: str | None = None  # text of the wiring that the framework chose, if it chose one

    @property
    def wiring(self) -> Wiring:
        """The wiring that was chosen; without a choice, the most probable one at the end."""
        if self.chosen is not None:
            names = (part.rpartition(" ")[2] for part in self.chosen.split("; "))
            return Wiring(self.config.space, tuple(names))
        return self.wiring_at(int(self.history.epoch[-1]))

    @checked
    def wiring_at(self, epoch: int) -> Wiring:
        """The most probable operation of every edge after an epoch; 0 is before training.

        In an exact tie, as before any learning with uniform masks, `none` comes last.
        Raises RecordError if alpha has diverged by then.
        """
        last = len(self.history.epoch) - 1
        if not 0 <= epoch <= last:
            raise ConfigError(f"epoch {epoch}: this run has epochs 0 to {last}.")
        probability = self.history.probability.sel(epoch=epoch)
        if probability.isnull().any():
            raise RecordError(f"run {self.config.hash} has no wiring at epoch {epoch}: diverged.")
        names = self.config.space.operations
        winners = most_probable(probability.values, names)
        return Wiring(self.config.space, tuple(names[k] for k in winners))

    @cached_property
    def diverged(self) -> bool:
        """Whether alpha, or the loss on the training set, is no number at the end."""
        loss = self.mean_loss.values[-1, SPLITS.index("train")]
        return bool(np.isnan(self.active_edges.values[-1]) or not np.isfinite(loss))

    @property
    def last_epoch(self) -> int:
        """Where the search ended, before the config's last one if it diverged or stopped early."""
        return int(np.isfinite(self.history.seconds.values).sum()) - 1

    @cached_property
    def none_probability(self) -> xr.DataArray:
        """p(none), (epoch, edge): 0 if it is not a candidate, NaN where alpha has diverged."""
        none = self.history.probability.operation == "none"
        p = self.history.probability.where(none, 0 * self.history.probability)
        return p.sum("operation", skipna=False)

    @cached_property
    def active_edges(self) -> xr.DataArray:
        """Number of edges that `none` does not win, (epoch,); NaN where alpha has diverged."""
        probability = self.history.probability
        values, operations = probability.values, probability.operation.values
        winners = operations[most_probable(values, operations)]  # (epoch, edge)
        diverged = np.isnan(values).any(axis=(-2, -1))
        active = np.where(diverged, np.nan, (winners != "none").sum(axis=-1))
        return probability.isel(edge=0, operation=0, drop=True).copy(data=active)

    @cached_property
    def output_cost(self) -> xr.DataArray:
        """L - H, the cost at the output (T2), mean over examples in nats, (epoch, split)."""
        return over_outcomes(self.history.loss - self.history.entropy, self.history.examples)

    @cached_property
    def mean_loss(self) -> xr.DataArray:
        """L, mean over examples in nats, (epoch, split)."""
        return over_outcomes(self.history.loss, self.history.examples)

    @property
    def accuracy(self) -> xr.DataArray:
        """Share of right answers, (epoch, split)."""
        examples = self.history.examples
        return examples.sel(outcome="right", drop=True) / examples.sum("outcome")

    def _table(self) -> pd.DataFrame:
        """Loss, L - H and accuracy where alpha learns, and the number of active edges, by epoch."""
        split = "train" if self.config.level == "single" else "search"
        curves = {"loss": self.mean_loss, "L-H": self.output_cost, "accuracy": self.accuracy}
        table = pd.DataFrame({name: c.sel(split=split).to_series() for name, c in curves.items()})
        return table.assign(**{"active edges": self.active_edges.to_series()})

    def to_json(self) -> str:
        """What ``str`` shows, for scripts, with every epoch; what is no number is null."""
        edges = self.history.edge.values
        lost = self.chosen is None and self.active_edges.isnull()[-1]
        wiring = None if lost else dict(zip(edges, self.wiring.operations, strict=True))
        parts = {
            "hash": self.config.hash,
            "config": self.config.model_dump(mode="json"),
            "epochs": self._table().reset_index().to_dict("records"),
            "wiring": wiring,
            "none_probability": self.none_probability[-1].to_series().to_dict(),
            "provenance": self.provenance,
        }
        return pd.Series(parts).to_json(double_precision=15, indent=1)

    def __str__(self) -> str:
        table = self._table().astype({"active edges": "Int64"})
        rows = np.unique(np.linspace(0, len(table) - 1, 6).round().astype(int))
        if self.chosen is None and self.active_edges.isnull()[-1]:
            edges = [f"none: the run diverged in epoch {self.last_epoch}"]
        else:
            p = self.none_probability[-1].values
            wired = zip(self.config.space.edges, self.wiring.operations, p, strict=True)
            edges = [f"{edge_name(edge)} {name:14s} {p:.2f}" for edge, name, p in wired]
        parts = {
            f"run {self.config.hash}": [],
            "config (what differs from the defaults)": _lines(self.config.changes),
            "epochs": table.iloc[rows].round(3).to_string().splitlines(),
            "final wiring, p(none)": edges,
            "provenance": _lines(self.provenance),
        }
        text = "\n\n".join("\n  ".join([title, *lines]) for title, lines in parts.items())
        return printable(text)

    @checked
    def save(self, path: str | Path) -> Path:
        """Writes one netCDF file, whole or not at all, and returns its path."""
        path = Path(path)
        texts = {
            "config": self.config.model_dump_json(),
            "meaning": json.dumps(self.config.meaning),
            "hash": self.config.hash,
            "provenance": json.dumps(self.provenance),
        }
        if self.chosen is not None:
            texts["chosen"] = self.chosen
        # One chunk each, in the newer format: the index of chunks would be a third of the file.
        encoding = {
            name: {"zlib": True, "complevel": 5, "shuffle": True, "chunksizes": variable.shape}
            for name, variable in self.history.data_vars.items()
        }
        with whole_file(path) as part:
            latest = {"libver": "latest"}
            with xr.backends.H5NetCDFStore.open(part, "w", driver_kwds=latest) as store:
                self.history.assign_attrs(texts).dump_to_store(store, encoding=encoding)
            seal(part)
        return path

    @classmethod
    @checked
    def load(cls, path: str | Path) -> "Run":
        """Reads a file that ``save`` wrote, and imports nothing that its config names.

        Raises DamagedRecord if it is not what was written, and RecordError if it cannot be read or
        is of another version of the package.
        """
        path = Path(path)
        check_seal(path)
        try:
            with h5py.File(path, locking=False) as file:  # xarray would take ten times as long
                texts = file.attrs
                meaning = json.loads(texts.get("meaning", "null"))
                config = SearchConfig.from_record(json.loads(texts["config"]), meaning)
                if config.hash != texts["hash"]:
                    raise ValueError("its config has other defaults.")
                history, provenance = _read_history(file, config), json.loads(texts["provenance"])
                return cls(config, history, provenance, texts.get("chosen"))
        except (KeyError, OSError, TypeError, ValueError) as error:
            other = f"{path} is no record, or of another version of nascore"
            raise RecordError(f"{other}: {one_line(error)}") from None


def _lines(values: dict[str, Any]) -> list[str]:
    return [f"{name} = {value}" for name, value in values.items() if name != "parts"]


def _read_history(file: h5py.File, config: SearchConfig) -> xr.Dataset:
    """The history of an open record, with what its framework recorded besides VARIABLES."""
    history = History(config.space, epochs=config.epochs, cells=config.cells)
    history.coordinates["epoch"] = file["epoch"][()]  # fewer, if the search stopped early
    for name in VARIABLES:
        history.arrays[name] = file[name][()]
    dataset = history.to_xarray()
    for name in file.keys() - history.arrays.keys() - history.coordinates.keys():
        dims = tuple(dim[0].name.strip("/") for dim in file[name].dims)
        attrs = {key: file[name].attrs[key] for key in ("long_name", "units")}
        dataset[name] = dims, file[name][()], attrs
    return dataset
