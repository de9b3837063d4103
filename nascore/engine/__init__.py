"""The paper's mathematics: cells, masks, the local cost, one step of a search."""

from typing import TYPE_CHECKING

from nascore.lazy import public_names

if TYPE_CHECKING:
    from nascore.engine.cost import local_cost, loss_and_entropy, pull_back
    from nascore.engine.mask import Mask
    from nascore.engine.operations import OPERATIONS, build_operation, normalisation, operation
    from nascore.engine.random import gumbel, stream
    from nascore.engine.space import edge_name, parse_edge
    from nascore.engine.unrolled import unrolled_cost

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
