"""The records that come with the book: whole, enough, small, and made again bit by bit."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from torchvision.datasets import FashionMNIST

from nascore import RunStore
from nascore.errors import DataError
from nascore.evidence.experiments import EXPERIMENTS, configs_of, load_experiment, searches
from nascore.evidence.verdicts import CLAIMS, verdicts
from nascore.runs.datasets import DATASETS
from nascore.runs.history import VARIABLES
from nascore.sweeps.parallel import sweep

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "book" / "records"
STORE = RunStore(FOLDER)
CONFIGS = set(searches("published"))


def test_every_experiment_has_all_its_runs():
    for name in EXPERIMENTS:
        arms = load_experiment(name, "published", STORE)
        configs = {arm: [run.config for run in runs] for arm, runs in arms.items()}
        assert configs == configs_of(name, "published")


def test_the_folder_holds_what_experiments_need_and_nothing_else():
    assert {path.name for path in FOLDER.iterdir()} == {STORE.path(c).name for c in CONFIGS}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 30e6


def test_records_are_whole_and_follow_the_schema():
    """Loading checks dims, shapes, coordinates and the hash; the rest is checked here."""
    for config in CONFIGS:
        run = STORE.get(config)
        history, provenance = run.history, run.provenance
        assert run.config == config
        assert set(history.data_vars) == set(VARIABLES)
        for name, (dims, dtype, long_name, units) in VARIABLES.items():
            assert history[name].dims == dims and history[name].dtype.str[1:] == dtype
            assert history[name].attrs == {"long_name": long_name, "units": units}
        ended = history.probability.notnull().all(["edge", "operation"])
        assert np.allclose(history.probability.sum("operation").where(ended, 1), 1, atol=1e-5)
        assert (history.cost_mean.sel(operation="none").fillna(0) == 0).all()
        seen = history.examples.sum("outcome").sel(split="train")
        size = config.sizes["train"]
        assert seen[0] == size
        assert (seen[1:] == size // config.batch_size * config.batch_size).all()
        assert provenance["commit"] and "dirty" not in provenance["commit"]
        assert "1 thread" in provenance["device"] and provenance["wall_seconds"] > 0


@pytest.fixture(scope="module")
def found():
    """The verdict of every claim on the published runs."""
    return verdicts("published", STORE)


def test_every_claim_has_a_verdict_from_enough_seeds(found):
    assert set(found) == set(CLAIMS)
    assert all(verdict.n >= 3 for verdict in found.values())
    assert all(verdict.n >= 8 for verdict in found.values() if verdict.claim.tested)
    assert [found[name].n for name in ("P1", "P2", "P3", "O1")] == [16] * 4


@pytest.mark.slow
@pytest.mark.long
def test_a_short_record_is_made_again(tmp_path, monkeypatch):
    """Bit by bit with the torch and the arithmetic that made it, else its beginning.

    Another processor rounds differently: its costs before training differ in the seventh digit.
    One epoch amplifies that to about 0.01 nat. Then the numbers before training must agree to
    1e-5, and L - H after the first epoch to 0.05 nat.
    """
    first = min(
        (STORE.get(config) for config in CONFIGS), key=lambda r: r.provenance["wall_seconds"]
    )
    monkeypatch.setattr(FashionMNIST, "download", lambda self: None)
    try:
        DATASETS["fashion-mnist"].load()
    except DataError as error:
        pytest.skip(f"needs {DATASETS['fashion-mnist'].examples} images: {error}")
    (again,) = sweep([first.config], store=tmp_path, progress=False)
    ours, theirs = (run.history.drop_vars("seconds") for run in (again, first))
    untrained = ours.sel(epoch=0), theirs.sel(epoch=0)
    same_torch = again.provenance["torch"] == first.provenance["torch"]
    if same_torch and untrained[0].identical(untrained[1]):  # this processor rounds as theirs did
        assert ours.identical(theirs)
    else:
        xr.testing.assert_allclose(*untrained, rtol=0, atol=1e-5)
        costs = [run.output_cost.sel(split="train", epoch=1) for run in (again, first)]
        assert abs(float(costs[0] - costs[1])) < 0.05
