from .engine.space import SearchSpace as SearchSpace
from .engine.space import Wiring as Wiring
from .engine.supernet import Supernet as Supernet
from .runs.config import SearchConfig as SearchConfig
from .runs.loop import search as search
from .runs.run import Run as Run
from .sweeps.parallel import sweep as sweep
from .sweeps.store import RunStore as RunStore
