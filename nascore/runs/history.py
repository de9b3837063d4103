"""History: what happened in a search, epoch by epoch, as labelled arrays. Needs no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from nascore.engine.space import SearchSpace, edge_name
from nascore.errors import ConfigError, unknown

Variables = Mapping[str, tuple[tuple[str, ...], str, str, str]]  # dims, type, long name, unit

SPLITS = ("train", "search", "valid")
OUTCOMES = ("right", "wrong")

_ARCHITECTURE = ("epoch", "edge", "operation")
_COST = ("epoch", "cell", "edge", "operation")
_OUTCOME = ("epoch", "split", "outcome")
_CELL = ("epoch", "cell")

VARIABLES = {
    "alpha": (_ARCHITECTURE, "f4", "architecture parameter after the epoch", "1"),
    "probability": (_ARCHITECTURE, "f4", "probability of the operation after the epoch", "1"),
    "cost_mean": (_COST, "f4", "mean local cost over the steps of the epoch", "nat"),
    "cost_std": (_COST, "f4", "standard deviation of the local cost over steps", "nat"),
    "cost_count": (_COST, "i4", "steps that drew the operation on an edge with an input", "1"),
    "cell_output_cost": (_CELL, "f4", "cost of output edges, mean over alpha's examples", "nat"),
    "loss": (_OUTCOME, "f4", "mean cross entropy of the examples with this outcome", "nat"),
    "entropy": (_OUTCOME, "f4", "mean entropy of the prediction", "nat"),
    "examples": (_OUTCOME, "i4", "number of examples with this outcome", "1"),
    "learning_rate": (("epoch",), "f4", "learning rate of theta", "1"),
    "seconds": (("epoch",), "f4", "wall time of the epoch", "s"),
}
"""Every variable of a history: dimensions, type, long name, unit. Epoch 0 is before training."""


class History:
    """Collects a history, epoch by epoch. What is never written stays NaN (or 0 if a count).

    Arguments:
        epochs: those of training; epoch 0, before it, is one more.
        extra: further variables, in the form of VARIABLES: what a framework records besides alpha.

    Raises ConfigError if a further variable has a name that is taken or an unknown dimension.

    >>> from nascore import SearchSpace
    >>> beta = ("epoch", "edge"), "f4", "weight of the edge before the softmax", "1"
    >>> history = History(SearchSpace(), epochs=3, cells=2, extra={"beta": beta})
    >>> history.write(0, {"beta": [1, 2, 3, 4, 5], "learning_rate": 0.1})
    >>> history.to_xarray().beta.sel(epoch=0, edge="(1,3)").item()
    4.0
    """

    def __init__(
        self, space: SearchSpace, *, epochs: int, cells: int, extra: Variables | None = None
    ):
        extra = extra or {}
        edges, operations = [edge_name(edge) for edge in space.edges], list(space.operations)
        self.coordinates = {"epoch": np.arange(epochs + 1), "cell": np.arange(cells)}
        self.coordinates |= {"edge": edges, "operation": operations}
        self.coordinates |= {"split": list(SPLITS), "outcome": list(OUTCOMES)}
        for name, (dims, *_) in extra.items():
            if name in VARIABLES or name in self.coordinates:
                raise ConfigError(f"{name!r} is in every history already. Choose another name.")
            for dim in set(dims) - set(self.coordinates):
                raise ConfigError(f"{name}: " + unknown("dimension", dim, self.coordinates))
        self.variables = {**VARIABLES, **extra}
        self.arrays = {}
        for name, (dims, dtype, _, _) in self.variables.items():
            shape = [len(self.coordinates[dim]) for dim in dims]
            self.arrays[name] = np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 0, dtype)

    def write(self, epoch: int, values: Mapping[str, Any], split: str | None = None) -> None:
        """Stores values of one epoch (and of one split), as the types that the schema says.

        They are tensors, arrays or numbers by variable, without the dims epoch and split.
        """
        where = epoch if split is None else (epoch, SPLITS.index(split))
        for name, value in values.items():
            if hasattr(value, "detach"):  # a tensor, on any device
                value = value.detach().cpu()
            with np.errstate(over="ignore"):  # single precision may lack the number
                self.arrays[name][where] = value

    def to_xarray(self) -> xr.Dataset:
        """The whole history as a Dataset that shares its arrays, with names and units."""
        variables = {
            name: (dims, self.arrays[name], {"long_name": long_name, "units": units})
            for name, (dims, _, long_name, units) in self.variables.items()
        }
        return xr.Dataset(variables, coords=self.coordinates)


def over_outcomes(values: xr.DataArray, examples: xr.DataArray) -> xr.DataArray:
    """The mean over all examples of means by outcome: NaN if one diverged, or without examples.

    (..., outcome) to (...). In numpy, as what follows: in xarray it takes far longer.
    """
    n = examples.values
    total = np.where(n > 0, values.values, 0) * n
    with np.errstate(invalid="ignore"):
        mean = total.sum(axis=-1) / n.sum(axis=-1)
    return examples.isel(outcome=0, drop=True).copy(data=mean)


def most_probable(probability: np.ndarray, operations: Sequence[str]) -> np.ndarray:
    """The index of every edge's operation, (..., edge), from (..., edge, operation).

    In an exact tie, `none` comes last.
    """
    none = np.array(operations) == "none"
    return (probability.astype("f8") - 1e-12 * none).argmax(axis=-1)
