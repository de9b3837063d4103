"""The paper's mathematics: cells, masks, frameworks, the local cost, one step of a search."""

from typing import TYPE_CHECKING

from nascore.lazy import public_names

if TYPE_CHECKING:
    from nascore.engine.cost import local_cost as local_cost
    from nascore.engine.cost import loss_and_entropy as loss_and_entropy
    from nascore.engine.cost import pull_back as pull_back
    from nascore.engine.mask import Mask as Mask
    from nascore.engine.operations import NORMS as NORMS
    from nascore.engine.operations import OPERATIONS as OPERATIONS
    from nascore.engine.operations import build_norm as build_norm
    from nascore.engine.operations import build_operation as build_operation
    from nascore.engine.operations import normalisation as normalisation
    from nascore.engine.operations import operation as operation
    from nascore.engine.random import gumbel as gumbel
    from nascore.engine.random import stream as stream
    from nascore.engine.space import SearchSpace as SearchSpace
    from nascore.engine.space import Wiring as Wiring
    from nascore.engine.space import edge_name as edge_name
    from nascore.engine.space import parse_edge as parse_edge
    from nascore.engine.supernet import Supernet as Supernet
    from nascore.engine.unrolled import unrolled_cost as unrolled_cost

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
