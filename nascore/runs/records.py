"""Records: what a run was asked (config), what happened (history), how it was made (provenance).

A record is one netCDF file that any HDF5 reader opens. A store keeps records under the hash of
their config.
"""

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from nascore.engine.cpu.memory import peak_memory
from nascore.engine.space import Wiring, edge_name
from nascore.errors import ConfigError, RecordError
from nascore.folders import ensure_writable
from nascore.runs.config import SearchConfig
from nascore.runs.data import SPLITS

OUTCOMES = ("right", "wrong")

_ARCHITECTURE = ("epoch", "edge", "operation")
_COST = ("epoch", "cell", "edge", "operation")
_OUTCOME = ("epoch", "split", "outcome")

VARIABLES = {
    "alpha": (_ARCHITECTURE, "f4", "architecture parameter after the epoch", "1"),
    "probability": (_ARCHITECTURE, "f4", "probability of the operation after the epoch", "1"),
    "cost_mean": (_COST, "f4", "mean local cost over the steps of the epoch", "nat"),
    "cost_std": (_COST, "f4", "standard deviation of the local cost over steps", "nat"),
    "cost_count": (
        _COST,
        "i4",
        "steps in which the operation was drawn on an edge with an input",
        "1",
    ),
    "cell_output_cost": (
        ("epoch", "cell"),
        "f4",
        "cost that the output edges of the cell bring, mean over the examples that alpha sees",
        "nat",
    ),
    "loss": (_OUTCOME, "f4", "mean cross entropy of the examples with this outcome", "nat"),
    "entropy": (_OUTCOME, "f4", "mean entropy of the prediction", "nat"),
    "examples": (_OUTCOME, "i4", "number of examples with this outcome", "1"),
    "learning_rate": (("epoch",), "f4", "learning rate of theta", "1"),
    "seconds": (("epoch",), "f4", "wall time of the epoch", "s"),
}
"""Every variable of a history: dimensions, type, long name, unit. Epoch 0 is before training."""


class History:
    """Collects a history, epoch by epoch. What is never written stays NaN (or 0 if a count)."""

    def __init__(self, config: SearchConfig):
        space = config.space
        self.coordinates = {
            "epoch": np.arange(config.epochs + 1),
            "cell": np.arange(config.cells),
            "edge": [edge_name(edge) for edge in space.edges],
            "operation": list(space.operations),
            "split": list(SPLITS),
            "outcome": list(OUTCOMES),
        }
        self.arrays = {
            name: np.full(
                [len(self.coordinates[dim]) for dim in dims],
                np.nan if dtype == "f4" else 0,
                dtype,
            )
            for name, (dims, dtype, _, _) in VARIABLES.items()
        }

    def write(self, epoch: int, values: Mapping, split: str | None = None) -> None:
        """Stores values by variable name: tensors or numbers of one epoch (and of one split)."""
        where = epoch if split is None else (epoch, SPLITS.index(split))
        for name, value in values.items():
            self.arrays[name][where] = torch.as_tensor(value).detach().cpu().numpy()

    def latest(self, epoch, split):
        return 0.0, 0.0, 0.0

    def to_xarray(self) -> xr.Dataset:
        return xr.Dataset(
            {
                name: (dims, self.arrays[name], {"long_name": long_name, "units": units})
                for name, (dims, _, long_name, units) in VARIABLES.items()
            },
            coords=self.coordinates,
        )


@dataclass(frozen=True, eq=False)
class Run:
    """One search: its config, its history and its provenance.

    Arguments:
        config: what was asked.
        history: dims epoch, cell, edge, operation, split, outcome; see VARIABLES. Not to change.
        provenance: versions, device, wall time and memory of the process that made it.
    """

    config: SearchConfig
    history: xr.Dataset
    provenance: dict

    @property
    def wiring(self) -> Wiring:
        """The most probable wiring at the end."""
        return self.wiring_at(self.config.epochs)

    def wiring_at(self, epoch: int) -> Wiring:
        """The most probable operation of every edge after an epoch; 0 is before training.

        In an exact tie, as before any learning with uniform masks, `none` comes last.
        Raises RecordError if alpha has diverged by then.
        """
        if not 0 <= epoch <= self.config.epochs:
            raise ConfigError(f"epoch {epoch}: this run has epochs 0 to {self.config.epochs}.")
        probability = self.history.probability.sel(epoch=epoch)
        if probability.isnull().any():
            raise RecordError(
                f"run {self.config.hash} has no wiring at epoch {epoch}: it diverged."
            )
        best = _favouring_edges(probability).argmax("operation").values
        return Wiring(self.config.space, tuple(self.config.space.operations[k] for k in best))

    @cached_property
    def diverged(self) -> bool:
        """Whether alpha, or the loss on the training set, is no number at the end."""
        loss = self.mean_loss.sel(split="train")[-1]
        return bool(self.active_edges[-1].isnull() or not np.isfinite(loss))

    @cached_property
    def none_probability(self) -> xr.DataArray:
        """p(none) of every edge, (epoch, edge); 0 if `none` is not a candidate.

        NaN where alpha has diverged.
        """
        probability = self.history.probability
        none = probability.where(probability.operation == "none", 0)
        return none.sum("operation").where(probability.notnull().all("operation"))

    @cached_property
    def active_edges(self) -> xr.DataArray:
        """Number of edges whose most probable operation is not `none`, (epoch,).

        NaN where alpha has diverged.
        """
        probability = self.history.probability
        best = probability.operation[_favouring_edges(probability.fillna(-1)).argmax("operation")]
        active = (best != "none").drop_vars("operation").sum("edge")
        return active.where(probability.notnull().all(["edge", "operation"]))

    @property
    def output_cost(self) -> xr.DataArray:
        """L - H, the cost at the output (T2), mean over examples in nats, (epoch, split)."""
        return self._mean(self.history.loss - self.history.entropy)

    @property
    def mean_loss(self) -> xr.DataArray:
        """L, mean over examples in nats, (epoch, split)."""
        return self._mean(self.history.loss)

    @property
    def mean_entropy(self) -> xr.DataArray:
        """H, mean over examples in nats, (epoch, split)."""
        return self._mean(self.history.entropy)

    @property
    def accuracy(self) -> xr.DataArray:
        """Share of right answers, (epoch, split)."""
        examples = self.history.examples
        return examples.sel(outcome="right", drop=True) / examples.sum("outcome")

    def _mean(self, values: xr.DataArray) -> xr.DataArray:
        """The mean over all examples of values that are means by outcome; NaN if one diverged."""
        examples = self.history.examples
        total = values.where(examples > 0, 0) * examples
        return total.sum("outcome", skipna=False) / examples.sum("outcome")

    def __str__(self) -> str:
        lines = [f"run {self.config.hash}", "", "config (what differs from the defaults)"]
        lines += [f"  {name} = {value}" for name, value in self.config.changes.items()]
        lines += ["", "epochs", "  epoch    loss     L-H  accuracy  active edges"]
        split = "train" if self.config.level == "single" else "search"
        for epoch in np.unique(np.linspace(0, self.config.epochs, 6).round().astype(int)):
            row = {"epoch": epoch, "split": split}
            loss, output_cost, accuracy = (
                float(values.sel(row))
                for values in (self.mean_loss, self.output_cost, self.accuracy)
            )
            active = float(self.active_edges.sel(epoch=epoch))
            lines.append(
                f"  {epoch:5d}  {loss:6.3f}  {output_cost:+6.3f}  {accuracy:8.3f}  {active:12.0f}"
            )
        lines += self._final_wiring()
        lines += ["", "provenance"]
        lines += [f"  {name} = {value}" for name, value in self.provenance.items()]
        return "\n".join(lines)

    def _final_wiring(self) -> list[str]:
        if self.active_edges.isnull()[-1]:
            return ["", "no final wiring: the run diverged"]
        none = self.none_probability.sel(epoch=self.config.epochs)
        lines = ["", f"final wiring ({len(self.wiring.active_edges)} active edges), p(none)"]
        lines += [
            f"  {edge_name(edge)} {name:14s} {float(p):.2f}"
            for edge, name, p in zip(
                self.config.space.edges, self.wiring.operations, none.values, strict=True
            )
        ]
        return lines

    def save(self, path: str | Path) -> Path:
        """Writes one netCDF file, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        history = self.history.assign_attrs(
            config=self.config.model_dump_json(),
            hash=self.config.hash,
            provenance=json.dumps(self.provenance),
        )
        packed = {"zlib": True, "complevel": 5, "shuffle": True, "fletcher32": True}
        encoding = {name: packed for name in history.data_vars}
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / path.name
            history.to_netcdf(part, engine="h5netcdf", encoding=encoding)
            os.replace(part, path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Reads a file that ``save`` wrote. Raises RecordError if it is damaged or no record."""
        path = Path(path)
        if not path.exists():
            raise RecordError(f"{path}: no such file.")
        try:
            history = xr.load_dataset(path, engine="h5netcdf")
            config = SearchConfig(**json.loads(history.attrs.pop("config")))
            provenance = json.loads(history.attrs.pop("provenance"))
            if history.attrs.pop("hash") != config.hash:
                raise ValueError("its config does not have the hash that it was saved with")
            expected = History(config).to_xarray()
            for name, variable in expected.variables.items():
                found = history.variables[name]
                if (found.dims, found.shape) != (variable.dims, variable.shape):
                    raise ValueError(f"{name} has dims {found.dims} and shape {found.shape}")
                if name in expected.coords and (found.values != variable.values).any():
                    raise ValueError(f"{name} is {list(found.values)}")
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise RecordError(
                f"{path} is not a whole record of a run ({error}). Delete it and run again."
            ) from None
        return cls(config, history, provenance)


def _favouring_edges(probability: xr.DataArray) -> xr.DataArray:
    """Probabilities in float64 with `none` a hair lower, so that it loses exact ties."""
    return probability.astype("f8") - 1e-12 * (probability.operation == "none")


class RunStore:
    """A folder of records, each under the hash of its config. What was read once is kept in memory.

    Arguments:
        folder: made when the first record is put in.
        shipped: another folder that is looked in, too, and never written to.
    """

    def __init__(self, folder: str | Path, shipped: str | Path | None = None):
        self.folder = Path(folder)
        self.shipped = None if shipped is None else Path(shipped)
        self._read: dict[tuple[Path, int], Run] = {}  # by path and time of the last change

    def path(self, config: SearchConfig) -> Path:
        name = f"{config.framework}-{config.level}-{config.dataset}-seed{config.seed}"
        return self.folder / f"{name}-{config.hash}.nc"

    def ensure_writable(self) -> None:
        """Raises RecordError if records cannot be put here: to be called before the work."""
        ensure_writable(self.folder, RecordError, "Choose another folder for the records.")

    def checkpoint(self, config: SearchConfig) -> Path:
        """Where a search of this config keeps its state until its record is in the store."""
        return self.path(config).with_suffix(".checkpoint")

    def find(self, config: SearchConfig) -> Path | None:
        """The file that holds the run of a config, here or among the shipped ones; not read."""
        path = self.path(config)
        if not path.exists() and self.shipped is not None:
            path = self.shipped / path.name
        return path if path.exists() else None

    def has(self, configs: Iterable[SearchConfig]) -> bool:
        """Whether there is a file for each of these."""
        return all(self.find(config) is not None for config in configs)

    def get(self, config: SearchConfig) -> Run | None:
        """The run of a config, or None. Raises RecordError if its record is damaged."""
        path = self.find(config)
        if path is None:
            return None
        key = path, path.stat().st_mtime_ns
        if key not in self._read:
            self._read[key] = Run.load(path)
        run = self._read[key]
        if run.config != config:
            raise RecordError(f"{path} holds a run of another config. Delete it and run again.")
        return run

    def put(self, run: Run) -> Path:
        """Keeps a run, and removes the checkpoint that it came from."""
        path = run.save(self.path(run.config))
        self.checkpoint(run.config).unlink(missing_ok=True)
        return path

    def __iter__(self) -> Iterator[Run]:
        return (Run.load(path) for path in sorted(self.folder.glob("*.nc")))


def provenance(device: torch.device, started: datetime, wall_seconds: float) -> dict:
    """How a run was made: versions, device, time, peak memory of the process."""
    if device.type == "cuda":
        name, memory = torch.cuda.get_device_name(device), torch.cuda.max_memory_allocated(device)
    else:
        name = f"{platform.machine()}, {torch.get_num_threads()} thread(s)"
        memory = peak_memory()
    return {
        "nascore": version("nascore"),
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "device": f"{device.type} ({name})",
        "started": started.astimezone(UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(wall_seconds, 3),
        "peak_memory_mib": round(memory / 2**20),
    }


def _commit() -> str | None:
    """The commit of the package's own checkout, "-dirty" if it has changes; None outside of one."""
    folder = Path(__file__).parent
    git = ["git", "-C", str(folder)]
    try:
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", __file__], check=True, capture_output=True
        )
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(describe, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
