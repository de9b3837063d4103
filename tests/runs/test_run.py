import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from nascore import Run, RunStore, SearchConfig, Wiring
from nascore.errors import ConfigError, DamagedRecord, RecordError, one_line
from nascore.folders import seal
from nascore.runs.history import VARIABLES, History


def rewritten(path, change):
    """The file, written again by xarray after a change of its Dataset."""
    record = xr.load_dataset(path, engine="h5netcdf")
    changed = change(record)
    (changed if isinstance(changed, xr.Dataset) else record).to_netcdf(path, engine="h5netcdf")
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
    with pytest.raises(RecordError, match=r"run.nc is not whole"):
        Run.load(path)


def test_an_exact_tie_goes_to_an_edge(run):
    history = run.history.copy(deep=True)
    history["probability"][...] = 1 / 8
    tied = Run(run.config, history, {})
    assert (tied.active_edges == 5).all() and len(tied.wiring.active_edges) == 5


def test_a_record_that_another_program_wrote_again_is_refused(run, tmp_path):
    path = rewritten(run.save(tmp_path / "run.nc"), lambda record: None)
    with pytest.raises(DamagedRecord, match="run.nc is not whole: no SHA-256 is at its"):
        Run.load(path)


def test_no_flipped_bit_is_silent(run, tmp_path):
    """One bit of every 311th byte and of each of the last 100; `make soak` flips every byte's."""
    path = run.save(tmp_path / "run.nc")
    raw = path.read_bytes()
    places = {*range(0, len(raw), 311), *range(len(raw) - 100, len(raw))}
    for place in places:
        flipped = bytearray(raw)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(DamagedRecord):
            Run.load(path)


def test_what_is_no_file_or_cannot_be_read_is_not_called_damaged(run, tmp_path, monkeypatch):
    pipe = tmp_path / "pipe.nc"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        with pytest.raises(RecordError, match="there is no file"):
            Run.load(path)
    path = run.save(tmp_path / "run.nc")

    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(RecordError, match="cannot be read: Permission denied") as error:
        Run.load(path)
    assert not isinstance(error.value, DamagedRecord) and "elete" not in str(error.value)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda record: record.attrs.pop("config"), "config"),
        (lambda record: record.attrs.update(config='{"epoch": 3}'), "unknown config field 'epoch'"),
        (lambda record: record.attrs.update(hash="0"), "its config has other defaults"),
        (lambda record: record.drop_vars("loss"), "loss"),
        (lambda record: record.isel(cell=[0]), "conflicting sizes"),
    ],
)
def test_a_record_of_another_version_is_not_called_damaged(run, tmp_path, change, message):
    path = rewritten(run.save(tmp_path / "run.nc"), change)
    seal(path)
    with pytest.raises(
        RecordError, match=f"run.nc is no record, or of another version of nascore: .*{message}"
    ) as e:
        Run.load(path)
    assert not isinstance(e.value, DamagedRecord) and "\n" not in str(e.value)


def test_a_missing_record(tmp_path):
    with pytest.raises(RecordError, match="there is no file"):
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


def test_a_wiring_that_was_chosen_is_kept(run, tmp_path):
    wiring = Wiring(run.config.space, ("none", "none", "none", "none", "skip_connect"))
    assert wiring != run.wiring
    chosen = Run(run.config, run.history, run.provenance, str(wiring))
    loaded = Run.load(chosen.save(tmp_path / "run.nc"))
    assert loaded.wiring == wiring and "(2,3) skip_connect" in str(loaded)
    assert loaded.wiring_at(run.config.epochs) == run.wiring


MODULE = """
import numpy as np
from torch import nn
from nascore.frameworks import DARTS
from nascore.runs import dataset

class Mine(DARTS):
    recorded = {"beta": (("epoch", "edge"), "f4", "a weight of mine", "1")}

@dataset("noise", examples=64, classes=3, channels=1)
def noise():
    return np.random.default_rng(0).normal(size=(64, 1, 8, 8)), np.arange(64) % 3

def mine(channels, norm):
    return norm(channels)

def my_norm(channels):
    return nn.InstanceNorm2d(channels)
"""

READ = """
import sys
from pathlib import Path

import matplotlib.pyplot as plt

from nascore import Run, RunStore
from nascore.book import plots
from nascore.sweeps.store import table

path = Path(sys.argv[1])
run = Run.load(path)
assert RunStore(path.parent).get(run.config).config == run.config
assert list(table([path.parent]).state) == ["whole"]
ax = plt.gca()
plots.outcome_shares([run], "train", ax), plots.wiring(run, None, ax)
print(run)
print(run.config.hash, run.config.sizes)
assert "a_plug_in_of_mine" not in sys.modules
"""


@pytest.fixture
def of_plug_ins(tiny, tmp_path, monkeypatch):
    """A record whose framework, dataset, normalisation and operation are of a module, and that."""
    monkeypatch.syspath_prepend(tmp_path / "modules")
    (tmp_path / "modules").mkdir()
    module = tmp_path / "modules" / "a_plug_in_of_mine.py"
    module.write_text(MODULE, encoding="utf-8")
    config = tiny.replace(
        framework="a_plug_in_of_mine:Mine",
        dataset="a_plug_in_of_mine:noise",
        norm="a_plug_in_of_mine:my_norm",
        operations=["none", "skip_connect", "a_plug_in_of_mine:mine"],
        allowed={"(0,2)": ["a_plug_in_of_mine:mine"]},
        train_examples=None,
        epochs=1,
    )
    extra = config.make_framework().recorded
    history = History(config.space, epochs=1, cells=config.cells, extra=extra)
    history.arrays["probability"][..., 2] = 1
    history.arrays["seconds"][...] = 0
    yield Run(config, history.to_xarray(), {"started": "now", "parts": []}), module
    sys.modules.pop("a_plug_in_of_mine", None)


def test_a_record_is_read_where_what_it_names_is_missing(of_plug_ins, tmp_path):
    """Read, listed and shown in another process, where its module would stop the interpreter."""
    run, module = of_plug_ins
    path = RunStore(tmp_path / "runs").put(run)
    loaded = Run.load(path)
    assert loaded.config == run.config and loaded.history.identical(run.history)
    for text in ("import os; os._exit(3)", None):
        module.unlink() if text is None else module.write_text(text, encoding="utf-8")
        words = [sys.executable, "-c", READ, path]
        result = subprocess.run(words, capture_output=True, encoding="utf-8", cwd=module.parent)
        assert result.returncode == 0, result.stderr
        assert f"{run.config.hash} {run.config.sizes}" in result.stdout


def test_a_config_of_a_record_finds_what_it_names_only_to_search(of_plug_ins, tmp_path):
    run, module = of_plug_ins
    config, address = Run.load(run.save(tmp_path / "run.nc")).config, run.config.address
    module.unlink()
    del sys.modules["a_plug_in_of_mine"]
    assert config.address == address and "sources" in address
    for use in (config.make_framework, config.replace):
        with pytest.raises(ConfigError, match="no module 'a_plug_in_of_mine'"):
            use()


def test_a_record_is_read_shown_and_listed_without_torch(run, tmp_path):
    """So that it takes no second."""
    script = """
import sys
from nascore import Run, RunStore
from nascore.sweeps.store import table
store = RunStore(sys.argv[1])
run = Run.load(store.folder / sys.argv[2])
assert str(run) and run.to_json() and store.get(run.config) and len(table([store.folder])) == 1
print("torch" in sys.modules)
"""
    path = RunStore(tmp_path).put(run)
    command = [sys.executable, "-c", script, tmp_path, path.name]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert result.stdout == "False\n"


def test_what_a_file_says_moves_no_cursor(run, tmp_path):
    """Escape, bidi and half characters of its provenance are shown, and not obeyed."""
    provenance = {**run.provenance, "device": "\x1b[2J\u202ecpu\ud800"}
    path = Run(run.config, run.history, provenance).save(tmp_path / "run.nc")
    assert r"device = \x1b[2J\u202ecpu\ud800" in str(Run.load(path))
    assert one_line("\x1b[2J\n\u202e") == r"\x1b[2J \u202e"
