"""The paper's mathematics: cells, masks, the local cost, one step of a search."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
