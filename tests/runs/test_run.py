import importlib
import json
import linecache
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from nascore import Run, SearchConfig, search
from nascore.errors import ConfigError, DamagedRecord, RecordError
from nascore.runs.history import VARIABLES, History
from nascore.runs.provenance import PROVENANCE
from nascore.runs.seal import SEAL, SEALED


def rewritten(path, change):
    """The file, written again by xarray after a change of its Dataset."""
    record = xr.load_dataset(path, engine="h5netcdf")
    change(record)
    record.to_netcdf(path, engine="h5netcdf")
    return path


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
    history, generator = (
        History(config.space, epochs=config.epochs, cells=config.cells),
        np.random.default_rng(0),
    )
    for array in history.arrays.values():
        array[...] = generator.normal(size=array.shape) if array.dtype == "f4" else 7
    path = Run(config, history.to_xarray(), {}).save(tmp_path / "run.nc")
    assert path.stat().st_size < 1_000_000


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
    with pytest.raises(DamagedRecord, match="contents have the SHA-256"):
        Run.load(path)
    Run(run.config, run.history.assign_coords(split=["a", "b", "c"]), {}).save(path)
    with pytest.raises(RecordError, match="split is"):
        Run.load(path)


def test_an_exact_tie_goes_to_an_edge(run):
    history = run.history.copy(deep=True)
    history["probability"][...] = 1 / 8
    tied = Run(run.config, history, {})
    assert (tied.active_edges == 5).all() and len(tied.wiring.active_edges) == 5


@pytest.mark.parametrize("name", ["config", "hash", "provenance", "sha256"])
def test_a_record_without_an_attribute_is_refused(run, tmp_path, name):
    path = rewritten(run.save(tmp_path / "run.nc"), lambda record: record.attrs.pop(name))
    with pytest.raises(DamagedRecord, match=name):
        Run.load(path)


def test_a_record_that_another_program_wrote_again_is_as_good(run, tmp_path):
    path = rewritten(run.save(tmp_path / "run.nc"), lambda record: None)
    assert SEAL not in path.read_bytes()
    assert Run.load(path).history.identical(run.history)


def test_no_flipped_bit_is_silent(run, tmp_path):
    """One bit of every 31st byte and of each of the last 200; `make soak` flips every byte's."""
    path = run.save(tmp_path / "run.nc")
    raw = path.read_bytes()
    places = {*range(0, len(raw), 31), *range(len(raw) - 200, len(raw))}
    for place in places:
        flipped = bytearray(raw)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            loaded = Run.load(path)
        except DamagedRecord:
            continue
        assert place >= len(raw) - SEALED  # the seal itself, which then counts as absent
        assert loaded.history.identical(run.history) and loaded.provenance == run.provenance


@pytest.mark.parametrize(
    "variable, value, message",
    [
        ("probability", 1.5, "probability is not from 0 to 1"),
        ("probability", -0.1, "probability is not from 0 to 1"),
        ("loss", -1.0, "loss is not from"),
        ("examples", -1, "examples is not from"),
        ("alpha", "f8", "alpha is float64"),
        ("cost_count", "f4", "cost_count is float32"),
    ],
)
def test_values_out_of_range_or_of_another_type_are_refused(
    run, tmp_path, variable, value, message
):
    history = run.history.copy(deep=True)
    if isinstance(value, str):
        history[variable] = history[variable].astype(value)
    else:
        history[variable][{dim: 0 for dim in history[variable].dims}] = value
    path = Run(run.config, history, run.provenance).save(tmp_path / "run.nc")
    with pytest.raises(DamagedRecord, match=message):
        Run.load(path)


@pytest.mark.parametrize("name", PROVENANCE)
def test_a_record_without_all_of_its_provenance_is_refused(run, tmp_path, name):
    provenance = {key: value for key, value in run.provenance.items() if key != name}
    path = Run(run.config, run.history, provenance).save(tmp_path / "run.nc")
    with pytest.raises(DamagedRecord, match=name):
        Run.load(path)


def test_what_is_no_file_or_cannot_be_read_is_not_called_damaged(run, tmp_path, monkeypatch):
    pipe = tmp_path / "pipe.nc"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        with pytest.raises(RecordError, match="is not a file"):
            Run.load(path)
    path = run.save(tmp_path / "run.nc")

    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(RecordError, match="cannot be read: Permission denied") as error:
        Run.load(path)
    assert not isinstance(error.value, DamagedRecord) and "elete" not in str(error.value)


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


def test_a_record_whose_plug_in_is_another_or_away_is_kept(tmp_path, tiny, monkeypatch):
    """Nothing is wrong with the file: the message must not ask to delete it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    source = "from nascore.engine import DARTS\nclass Mine(DARTS):\n    luck: int = 1\n"
    module = tmp_path / "a_plug_in_of_mine.py"
    module.write_text(source)
    config = tiny.replace(framework="a_plug_in_of_mine:Mine", epochs=1)
    path = search(config, progress=False).save(tmp_path / "run.nc")
    assert Run.load(path).config == config

    linecache.clearcache()
    module.write_text(source.replace("1", "2"))
    with pytest.raises(RecordError, match="source of a_plug_in_of_mine:Mine has changed") as error:
        Run.load(path)
    assert "Delete" not in str(error.value)

    module.unlink()
    monkeypatch.delitem(sys.modules, "a_plug_in_of_mine")
    importlib.invalidate_caches()
    with pytest.raises(RecordError, match="no module 'a_plug_in_of_mine'") as error:
        Run.load(path)
    assert "is whole" in str(error.value) and "Delete" not in str(error.value)
