"""The frameworks, one small file each: how each draws a mask Z, and with which score s.

The gradient on alpha is the same for all of them: the local cost C_k of each operation, pulled back
through the score (see ../cost.py). Every framework serves both levels: single-level search forms
the cost on the batch that theta learns from, bi-level search on a batch of the search set.
"""

from nascore.engine.frameworks.base import (
    FRAMEWORKS,
    Formulas,
    Framework,
    check,
    framework,
    make_framework,
)
from nascore.engine.frameworks.darts import DARTS
from nascore.engine.frameworks.drnas import DrNAS
from nascore.engine.frameworks.dsnas import DSNAS
from nascore.engine.frameworks.fairdarts import FairDARTS
from nascore.engine.frameworks.gdas import GDAS
from nascore.engine.frameworks.pcdarts import PCDARTS
from nascore.engine.frameworks.proxylessnas import ProxylessNAS
from nascore.engine.frameworks.reinforce import REINFORCE
from nascore.engine.frameworks.snas import SNAS

__all__ = [
    "DARTS",
    "DSNAS",
    "FRAMEWORKS",
    "GDAS",
    "PCDARTS",
    "REINFORCE",
    "SNAS",
    "DrNAS",
    "FairDARTS",
    "Formulas",
    "Framework",
    "ProxylessNAS",
    "check",
    "framework",
    "make_framework",
]
