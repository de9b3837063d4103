"""Many searches: a store of their records, sweeps over processes and clusters."""
