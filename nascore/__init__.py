"""Differentiable architecture search, seen through its local cost.

Folders import only from those before them: fast, engine, theory, frameworks, runs, sweeps,
evidence, book. The paper's mathematics is in engine and frameworks: read these first.

The public names stand in the stub beside this file, for editors and type checkers too. No module
bears the name of one of them: `nascore.search` is the function, always.
"""

import lazy_loader

from nascore.version import __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
