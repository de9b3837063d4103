"""Frameworks, one small file each: how each draws a mask Z, and with which score s.

All serve both levels: the cost is formed on the batch that theta learns from, or on the search set.
"""

from nascore.frameworks.base import FRAMEWORKS, Context, Framework, framework, make_framework
from nascore.frameworks.darts import DARTS
from nascore.frameworks.dsnas import DSNAS, ReleasedDSNAS
from nascore.frameworks.proxylessnas import ProxylessNAS
from nascore.frameworks.snas import SNAS

# isort: split
# The paper's four come first, here and in every table.
from nascore.frameworks.asap import ASAP
from nascore.frameworks.betadarts import BetaDARTS
from nascore.frameworks.darts_pt import DARTSPT
from nascore.frameworks.drnas import DrNAS
from nascore.frameworks.enas import ENAS
from nascore.frameworks.fairdarts import FairDARTS
from nascore.frameworks.gaea import GAEA
from nascore.frameworks.gdas import GDAS
from nascore.frameworks.pcdarts import PCDARTS
from nascore.frameworks.reinforce import REINFORCE
from nascore.frameworks.sdarts import SDARTSRS
from nascore.frameworks.spos import SPOS
