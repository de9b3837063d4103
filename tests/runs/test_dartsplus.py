"""DARTS+ ends a search of any framework early, and what it leaves is a whole record."""

import numpy as np
import pytest

from nascore import Run, search
from nascore.errors import ConfigError, Interrupted
from nascore.runs.dartsplus import ends_early

NAMES = ("none", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
SKIP, SEP, DIL = ([0.1, *rest] for rest in ([0.5, 0.3, 0.1], [0.2, 0.4, 0.3], [0.2, 0.3, 0.4]))


@pytest.mark.parametrize(
    "epochs, skips, ends",
    [
        ([[SKIP, SKIP]], 2, False),  # before training
        ([[SEP, SEP], [SKIP, SEP]], 2, False),
        ([[SEP, SEP], [SKIP, SKIP]], 2, True),
        ([[SEP, SEP], [SKIP, SKIP]], 3, False),
        ([[SEP, SEP], [[0.5, 0.5, 0, 0], SEP]], 1, True),  # as the wiring has it
        ([[SEP, SEP], [SKIP, [np.nan] * 4]], 1, False),
    ],
)
def test_skips_are_counted_in_the_latest_wiring(epochs, skips, ends):
    assert ends_early(np.array(epochs), NAMES, [2, 3], skips, None) == ends


@pytest.mark.parametrize(
    "edges, stable, ends",
    [
        ([SEP, SEP, SEP], 2, True),
        ([SEP, SEP, SEP], 3, False),
        ([DIL, SEP, SEP], 2, False),
        ([DIL, SEP, SEP], 1, True),
        ([SEP, SEP, DIL], 1, False),
        ([SEP, SKIP, SEP], 2, True),  # a skip connection has no weights to learn
    ],
)
def test_the_ranking_is_that_of_learnable_operations(edges, stable, ends):
    probability = np.array([[SEP, edge] for edge in edges])
    assert ends_early(probability, NAMES, [2, 3], None, stable) == ends


@pytest.fixture(scope="module")
def whole():
    """Makes a search of eight epochs without a rule, once for each framework."""
    made = {}

    def make(config):
        return made.setdefault(config, search(config, progress=False))

    return make


def first_end(run, rule, number):
    """The epoch in which a whole search would have met a rule, read from its record."""
    learnable = ["sep_conv_3x3", "dil_conv_3x3"]
    order = run.history.probability.sel(operation=learnable).values.argsort(axis=-1)
    for epoch in range(1, run.last_epoch + 1):
        if rule == "stop_at_skips":
            met = run.wiring_at(epoch).operations.count("skip_connect") >= number
        else:
            before = range(epoch - number, epoch)
            met = epoch >= number and all((order[n] == order[epoch]).all() for n in before)
        if met:
            return epoch
    return None


@pytest.mark.parametrize("rule", ["stop_at_skips", "stop_when_stable"])
@pytest.mark.parametrize(
    "settings",
    [
        {"framework": "dsnas", "seed": 7},
        {"framework": "darts", "seed": 2, "level": "bi", "search_examples": 96},
    ],
)
def test_a_search_ends_in_the_epoch_that_meets_the_rule(settings, rule, tiny, whole, tmp_path):
    """With seeds in which both rules are met on the way, neither at once nor at the end."""
    config = tiny.replace(operations=NAMES, epochs=8, arch_lr=0.1, cells=1, **settings)
    longer = whole(config)
    ends = {number: first_end(longer, rule, number) for number in range(1, 6)}
    number, end = next((n, e) for n, e in ends.items() if e is not None and 1 < e < 8)
    ruled, file = config.replace(**{rule: number}), tmp_path / "checkpoint"
    run = search(ruled, progress=False)
    same = longer.history.isel(epoch=slice(end + 1)).drop_vars("seconds")
    assert run.last_epoch == end and run.history.drop_vars("seconds").identical(same)
    assert run.wiring == longer.wiring_at(end) and not run.diverged
    assert f"\n  {end} " in str(run)
    again = Run.load(run.save(tmp_path / "run.nc"))
    assert (again.last_epoch, again.wiring) == (end, run.wiring)
    assert again.history.identical(run.history)

    steps = iter(range(4))  # told to stop in the middle of an epoch
    with pytest.raises(Interrupted):
        search(ruled, progress=False, checkpoint=file, stop=lambda: next(steps, None) is None)
    for _ in range(2):  # goes on to the end, and from the end
        resumed = search(ruled, progress=False, checkpoint=file)
        assert resumed.history.drop_vars("seconds").identical(same)


def test_a_config_without_a_rule_has_the_address_that_it_had(tiny):
    assert "stop" not in tiny.address
    assert "stop_at_skips" in tiny.replace(stop_at_skips=2).address


def test_a_rule_that_could_do_nothing_is_refused(tiny):
    with pytest.raises(ConfigError, match="stop_at_skips=2 without skip_connect"):
        tiny.replace(stop_at_skips=2, operations=["none", "sep_conv_3x3"])
    pools = tiny.replace(stop_when_stable=2, operations=["none", "skip_connect", "max_pool_3x3"])
    with pytest.raises(ConfigError, match="stop_when_stable=2: no operation has weights"):
        search(pools, progress=False)
