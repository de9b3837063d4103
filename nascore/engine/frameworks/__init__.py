"""The paper's frameworks, one small file each: how each draws a mask Z, and with which score s.

Every framework serves both levels: single-level search forms the cost on the batch that theta
learns from, bi-level search on a batch of the search set.
"""

from nascore.engine.frameworks.base import FRAMEWORKS as FRAMEWORKS
from nascore.engine.frameworks.base import Framework as Framework
from nascore.engine.frameworks.base import framework as framework
from nascore.engine.frameworks.base import make_framework as make_framework
from nascore.engine.frameworks.darts import DARTS as DARTS
from nascore.engine.frameworks.dsnas import DSNAS as DSNAS
from nascore.engine.frameworks.proxylessnas import ProxylessNAS as ProxylessNAS
from nascore.engine.frameworks.snas import SNAS as SNAS
