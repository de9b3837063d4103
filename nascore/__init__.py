"""Differentiable architecture search, seen through its local cost.

Folders import only from those before them: fast, engine, theory, frameworks, runs, sweeps,
evidence, book. The paper's mathematics is in engine and frameworks: read these first.

The public names. No module bears the name of one of them: `nascore.search` is the function, always.
"""

from typing import TYPE_CHECKING

from nascore.lazy import public_names

if TYPE_CHECKING:
    from nascore.engine.space import SearchSpace, Wiring
    from nascore.engine.supernet import Supernet
    from nascore.runs.config import SearchConfig
    from nascore.runs.loop import search
    from nascore.runs.run import Run
    from nascore.sweeps.parallel import sweep
    from nascore.sweeps.store import RunStore

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
