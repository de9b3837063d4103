"""Searches that run: their config and data, the loop, and the records of what came of them."""

from typing import TYPE_CHECKING

from nascore.lazy import public_names

if TYPE_CHECKING:
    from nascore.runs.algorithm import Search as Search
    from nascore.runs.config import SearchConfig as SearchConfig
    from nascore.runs.datasets import DATASETS as DATASETS
    from nascore.runs.datasets import dataset as dataset
    from nascore.runs.history import History as History
    from nascore.runs.loop import search as search
    from nascore.runs.run import Run as Run

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
