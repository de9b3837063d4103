import json
import os

import numpy as np
import pytest
import xarray as xr

from nascore import Run, RunStore, SearchConfig, search
from nascore.errors import ConfigError, RecordError
from nascore.runs.records import VARIABLES, History


@pytest.fixture(scope="module")
def run():
    config = SearchConfig(
        level="bi",
        dataset="synthetic",
        train_examples=64,
        search_examples=64,
        allowed={"(2,3)": ["none", "skip_connect"]},
        augment=False,
        cells=2,
        channels=4,
        batch_size=32,
        epochs=2,
    )
    return search(config, progress=False)


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


def test_save_and_load_lose_nothing(run, tmp_path):
    loaded = Run.load(run.save(tmp_path / "new" / "run.nc"))
    assert loaded.history.identical(run.history)
    assert all(loaded.history[name].dtype == run.history[name].dtype for name in VARIABLES)
    assert loaded.config == run.config and loaded.provenance == run.provenance
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["run.nc"]


def test_anyone_can_open_a_record(run, tmp_path):
    """Without this package: xarray, and JSON for the config."""
    with xr.open_dataset(run.save(tmp_path / "run.nc"), engine="h5netcdf") as dataset:
        assert json.loads(dataset.attrs["config"])["cells"] == 2
        assert json.loads(dataset.attrs["provenance"])["torch"]


def test_a_record_of_published_size_is_small(tmp_path):
    """Normal cell, 8 cells, 60 epochs of random numbers, which do not compress: below 1 MB."""
    config = SearchConfig(dataset="fashion-mnist", nodes=4, epochs=60)
    history, generator = History(config), np.random.default_rng(0)
    for array in history.arrays.values():
        array[...] = generator.normal(size=array.shape) if array.dtype == "f4" else 7
    path = Run(config, history.to_xarray(), {}).save(tmp_path / "run.nc")
    assert path.stat().st_size < 1_000_000


def test_provenance_is_complete(run):
    assert set(run.provenance) == {
        "nascore",
        "commit",
        "torch",
        "python",
        "system",
        "device",
        "started",
        "wall_seconds",
        "peak_memory_mib",
    }
    assert run.provenance["device"].startswith("cpu")
    assert run.provenance["peak_memory_mib"] > 50


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_truncated_record_is_named(run, tmp_path, keep):
    path = run.save(tmp_path / "run.nc")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep * len(raw)) if keep < 1 else keep])
    with pytest.raises(RecordError, match=r"run.nc is not a whole record"):
        Run.load(path)


def test_a_flipped_byte_in_the_numbers_is_found(run, tmp_path):
    path = run.save(tmp_path / "run.nc")
    raw = bytearray(path.read_bytes())
    import h5py

    with h5py.File(path) as file:
        chunk = file["cost_mean"].id.get_chunk_info(0)
    raw[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(RecordError, match=r"run.nc is not a whole record"):
        Run.load(path)


def test_a_record_whose_config_or_labels_were_changed_is_refused(run, tmp_path):
    import h5py

    path = run.save(tmp_path / "run.nc")
    with h5py.File(path, "a") as file:
        file.attrs["config"] = run.config.replace(seed=7).model_dump_json()
    with pytest.raises(RecordError, match="does not have the hash"):
        Run.load(path)
    Run(run.config, run.history.assign_coords(split=["a", "b", "c"]), {}).save(path)
    with pytest.raises(RecordError, match="split is"):
        Run.load(path)


def test_an_exact_tie_goes_to_an_edge(run):
    history = run.history.copy(deep=True)
    history["probability"][...] = 1 / 8
    tied = Run(run.config, history, {})
    assert (tied.active_edges == 5).all() and len(tied.wiring.active_edges) == 5


@pytest.mark.parametrize("name", ["config", "provenance"])
def test_a_record_without_config_or_provenance_is_refused(run, tmp_path, name):
    dataset = run.history.assign_attrs(
        config=run.config.model_dump_json(), hash=run.config.hash, provenance="{}"
    )
    del dataset.attrs[name]
    dataset.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with pytest.raises(RecordError, match=name):
        Run.load(tmp_path / "run.nc")


def test_a_record_of_another_shape_is_refused(run, tmp_path):
    Run(run.config, run.history.isel(cell=[0]), {}).save(tmp_path / "run.nc")
    with pytest.raises(RecordError, match="cell"):
        Run.load(tmp_path / "run.nc")
    Run(run.config, run.history.drop_vars("loss"), {}).save(tmp_path / "run.nc")
    with pytest.raises(RecordError, match="loss"):
        Run.load(tmp_path / "run.nc")


def test_a_missing_record(tmp_path):
    with pytest.raises(RecordError, match="no such file"):
        Run.load(tmp_path / "run.nc")


def test_wirings_and_curves(run):
    assert run.wiring == run.wiring_at(2)
    assert run.wiring_at(0)[2, 3] in ("none", "skip_connect")
    with pytest.raises(ConfigError, match="epoch 3: this run has epochs 0 to 2"):
        run.wiring_at(3)
    for epoch in range(3):
        assert run.active_edges.sel(epoch=epoch) == len(run.wiring_at(epoch).active_edges)
    h = run.history.sel(epoch=1, split="train")
    share = h.examples / h.examples.sum()
    expected = float(((h.loss - h.entropy).fillna(0) * share).sum())
    assert float(run.output_cost.sel(epoch=1, split="train")) == pytest.approx(expected)
    assert float(run.accuracy.sel(epoch=1, split="train")) == pytest.approx(
        float(share.sel(outcome="right"))
    )


def test_a_run_that_diverged_is_shown_and_has_no_wiring(run):
    history = run.history.copy(deep=True)
    history["probability"][1:] = np.nan
    diverged = Run(run.config, history, run.provenance)
    history["loss"][2] = np.nan
    assert diverged.active_edges.isnull().values.tolist() == [False, True, True]
    assert diverged.none_probability.isnull().all("edge").values.tolist() == [False, True, True]
    assert np.isnan(diverged.output_cost.sel(epoch=2, split="train"))
    assert np.isfinite(diverged.output_cost.sel(epoch=1, split="train"))
    assert "the run diverged" in str(diverged)
    with pytest.raises(RecordError, match="diverged"):
        _ = diverged.wiring


def test_summary_names_config_epochs_wiring_and_provenance(run):
    text = str(run)
    for part in ("level = bi", "L-H", "final wiring", "(2,3)", "torch = "):
        assert part in text


def test_store_keeps_runs_under_their_config(run, tmp_path):
    store = RunStore(tmp_path / "runs")
    assert store.get(run.config) is None and list(store) == []
    path = store.put(run)
    assert run.config.hash in path.name
    assert store.get(run.config).history.identical(run.history)
    assert store.get(run.config.replace(seed=9)) is None
    assert [kept.config for kept in store] == [run.config]
    path.rename(store.path(run.config.replace(seed=9)))
    with pytest.raises(RecordError, match="holds a run of another config"):
        store.get(run.config.replace(seed=9))


def test_a_store_finds_its_own_records_before_shipped_ones(run, tmp_path):
    shipped, store = RunStore(tmp_path / "book"), RunStore(tmp_path / "runs", tmp_path / "book")
    assert store.find(run.config) is None
    theirs = shipped.put(run)
    assert store.find(run.config) == theirs
    assert store.find(run.config.replace(seed=9)) is None
    ours = store.put(run)
    assert store.find(run.config) == ours


def test_a_store_reads_a_record_once_until_it_changes(tiny, tmp_path, monkeypatch):
    run, store = search(tiny, progress=False), RunStore(tmp_path)
    store.put(run)
    loads, load = [], Run.load
    monkeypatch.setattr(Run, "load", lambda path: loads.append(path) or load(path))
    assert store.get(tiny) is store.get(tiny)
    assert len(loads) == 1
    os.utime(store.path(tiny), ns=(1, 1))
    store.get(tiny)
    assert len(loads) == 2
