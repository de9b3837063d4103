import numpy as np
import pytest
import torch

from nascore import SearchSpace
from nascore.errors import ConfigError
from nascore.runs.history import VARIABLES, History


def test_history_has_the_stated_schema(run):
    history = run.history
    assert dict(history.sizes) == {
        "epoch": 3,
        "cell": 2,
        "edge": 5,
        "operation": 8,
        "split": 3,
        "outcome": 2,
    }
    assert list(history.epoch.values) == [0, 1, 2]
    assert list(history.edge.values) == ["(0,2)", "(1,2)", "(0,3)", "(1,3)", "(2,3)"]
    assert list(history.split.values) == ["train", "search", "valid"]
    assert list(history.outcome.values) == ["right", "wrong"]
    assert set(history.data_vars) == set(VARIABLES)
    for name, (dims, dtype, _, _) in VARIABLES.items():
        assert history[name].dims == dims
        assert history[name].dtype == dtype
        assert history[name].attrs["long_name"] and history[name].attrs["units"]


def test_history_starts_before_training(run):
    assert np.isfinite(run.history.alpha.values[0]).all()
    assert (
        np.isfinite(run.history.loss.sel(epoch=0, split=["train", "search"])).any("outcome").all()
    )
    assert run.history.probability.sum("operation").values == pytest.approx(1, abs=1e-6)
    assert np.isnan(run.history.loss.sel(split="valid")).all()


def test_a_further_variable_is_part_of_the_history():
    extra = {"beta": (("epoch", "edge"), "f4", "edge weight before the softmax", "1")}
    history = History(SearchSpace(), epochs=2, cells=1, extra=extra)
    history.write(1, {"beta": np.arange(5)})
    dataset = history.to_xarray()
    assert set(dataset.data_vars) == {*VARIABLES, "beta"} and "beta" not in VARIABLES
    assert dataset.beta.dims == ("epoch", "edge") and dataset.beta.dtype == "f4"
    assert dataset.beta.attrs == {"long_name": "edge weight before the softmax", "units": "1"}
    assert dataset.beta.sel(epoch=1).values.tolist() == [0, 1, 2, 3, 4]
    assert dataset.beta.sel(epoch=[0, 2]).isnull().all()


@pytest.mark.parametrize(
    "extra, message",
    [
        ({"alpha": (("edge",), "f4", "", "1")}, "'alpha' is in every history already"),
        ({"cell": (("edge",), "f4", "", "1")}, "'cell' is in every history already"),
        ({"beta": (("edges",), "f4", "", "1")}, "beta: unknown dimension 'edges'.*'edge'"),
    ],
)
def test_a_further_variable_that_does_not_fit_is_refused(extra, message):
    with pytest.raises(ConfigError, match=message):
        History(SearchSpace(), epochs=2, cells=1, extra=extra)


def test_values_are_stored_as_the_types_of_the_schema():
    """Those of a search in double precision too, and numbers that single precision lacks."""
    history = History(SearchSpace(), epochs=1, cells=2)
    value = torch.tensor([1 / 3, 1e300, torch.nan, 0.1, -2], dtype=torch.float64)
    alpha = value[:, None].expand(5, 8).clone().requires_grad_()
    history.write(1, {"alpha": alpha, "learning_rate": 0.1, "cost_count": torch.ones(2, 5, 8)})
    single = np.array([1 / 3, np.inf, np.nan, 0.1, -2], dtype="f4")
    np.testing.assert_array_equal(history.arrays["alpha"][1, :, 0], single)
    assert history.arrays["learning_rate"][1] == np.float32(0.1)
    for name, (_, dtype, _, _) in VARIABLES.items():
        assert history.arrays[name].dtype == dtype
    assert np.isnan(history.arrays["alpha"][0]).all()
