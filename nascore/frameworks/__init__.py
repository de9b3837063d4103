"""Frameworks, one small file each: how each draws a mask Z, and with which score s.

Every framework serves both levels: single-level search forms the cost on the batch that theta
learns from, bi-level search on a batch of the search set.
"""

from nascore.frameworks.base import FRAMEWORKS as FRAMEWORKS
from nascore.frameworks.base import Context as Context
from nascore.frameworks.base import Formulas as Formulas
from nascore.frameworks.base import Framework as Framework
from nascore.frameworks.base import framework as framework
from nascore.frameworks.base import make_framework as make_framework
from nascore.frameworks.darts import DARTS as DARTS
from nascore.frameworks.dsnas import DSNAS as DSNAS
from nascore.frameworks.proxylessnas import ProxylessNAS as ProxylessNAS
from nascore.frameworks.snas import SNAS as SNAS

# isort: split
# The paper's four come first, here and in every table.
from nascore.frameworks.asap import ASAP as ASAP
from nascore.frameworks.betadarts import BetaDARTS as BetaDARTS
from nascore.frameworks.darts_pt import DARTSPT as DARTSPT
from nascore.frameworks.drnas import DrNAS as DrNAS
from nascore.frameworks.dsnas_released import ReleasedDSNAS as ReleasedDSNAS
from nascore.frameworks.enas import ENAS as ENAS
from nascore.frameworks.fairdarts import FairDARTS as FairDARTS
from nascore.frameworks.gaea import GAEA as GAEA
from nascore.frameworks.gdas import GDAS as GDAS
from nascore.frameworks.pcdarts import PCDARTS as PCDARTS
from nascore.frameworks.reinforce import REINFORCE as REINFORCE
from nascore.frameworks.sdarts import SDARTSRS as SDARTSRS
from nascore.frameworks.spos import SPOS as SPOS
