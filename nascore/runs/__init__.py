"""Searches that run: their config and data, the loop, and the records of what came of them."""

from typing import TYPE_CHECKING

from nascore.lazy import public_names

if TYPE_CHECKING:
    from nascore.runs.algorithm import Search
    from nascore.runs.datasets import DATASETS, dataset

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
