"""Many searches: a store of their records, sweeps over processes and clusters, a catalogue."""

from typing import TYPE_CHECKING

from nascore.lazy import public_names

if TYPE_CHECKING:
    from nascore.sweeps.parallel import sweep as sweep
    from nascore.sweeps.store import RunStore as RunStore

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
