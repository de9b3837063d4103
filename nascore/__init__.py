"""Differentiable architecture search, seen through its local cost.

Folders import only from those before them: fast, engine, frameworks, runs, sweeps, theory,
evidence, book. The paper's mathematics is in engine and frameworks: read these first.

The public names. No module bears the name of one of them: `nascore.search` is the function, always.
"""

from typing import TYPE_CHECKING

from nascore.lazy import public_names

if TYPE_CHECKING:
    from nascore.engine.space import SearchSpace as SearchSpace
    from nascore.engine.space import Wiring as Wiring
    from nascore.engine.supernet import Supernet as Supernet
    from nascore.runs.config import SearchConfig as SearchConfig
    from nascore.runs.loop import search as search
    from nascore.runs.run import Run as Run
    from nascore.sweeps.parallel import sweep as sweep
    from nascore.sweeps.store import RunStore as RunStore

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
