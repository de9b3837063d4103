import importlib
import linecache
import os
import re
import sys

import pytest
import torch

from nascore import RunStore, search, sweep
from nascore.errors import ConfigError, RecordError, SweepError
from nascore.frameworks import DARTS
from nascore.sweeps import parallel
from nascore.sweeps.parallel import _fitting

pytestmark = pytest.mark.slow  # each sweep starts processes


def histories(runs):
    return [run.history.drop_vars("seconds") for run in runs]


@pytest.mark.long
def test_same_bits_whatever_the_number_of_workers(tiny, tmp_path):
    configs = [tiny.replace(seed=seed, cells=1) for seed in (0, 1, 2)]
    two = sweep(configs, store=tmp_path / "two", workers=2, progress=False)
    here = sweep(configs, workers=0, progress=False)
    assert [run.config for run in two] == configs
    for a, b in zip(histories(two), histories(here), strict=True):
        assert a.identical(b)
    assert all("1 thread" in run.provenance["device"] for run in two + here)
    store = RunStore(tmp_path / "two")
    for run in two:
        assert store.get(run.config).history.identical(run.history)
        assert store.get(run.config).provenance == run.provenance


def test_what_the_store_has_is_not_run_again(tiny, tmp_path):
    first = sweep([tiny, tiny], store=tmp_path, workers=0, progress=False)
    assert len(list(tmp_path.iterdir())) == 1  # the record, and no checkpoint
    again = sweep([tiny], store=RunStore(tmp_path), workers=0, progress=False)
    assert first[0].provenance == first[1].provenance == again[0].provenance


def test_fresh_runs_again_and_replaces_each_record_when_its_new_one_is_whole(tiny, tmp_path):
    store, bad = RunStore(tmp_path), tiny.replace(device="cuda:99")
    first, _ = sweep([tiny, tiny.replace(seed=1)], store=store, workers=0, progress=False)
    before = store.path(tiny).stat().st_ino
    (again,) = sweep([tiny], store=store, fresh=True, workers=0, progress=False)
    assert store.path(tiny).stat().st_ino != before  # written beside the old one, then moved there
    assert histories([first])[0].identical(histories([again])[0])
    assert store.get(tiny).provenance == again.provenance
    with pytest.raises(SweepError, match="cuda:99"):
        sweep([bad, tiny.replace(seed=1)], store=store, workers=0, fresh=True, progress=False)
    assert store.get(tiny) and store.get(tiny.replace(seed=1))  # nothing was lost


def test_fresh_takes_no_checkpoint(traced, tmp_path):
    """Not even that of a search whose record was all that a kill left unwritten."""
    config, store = traced.config(), RunStore(tmp_path)
    made = []
    for fresh in (True, False):
        search(config, progress=False, checkpoint=store.checkpoint(config))
        store.path(config).unlink(missing_ok=True)
        steps = len(traced.trace())
        sweep([config], store=store, workers=0, fresh=fresh, progress=False)
        made.append(len(traced.trace()) - steps)
    assert made[0] >= made[1] + 6  # a framework is tried in both, before any step


def test_a_checkpoint_that_is_refused_is_said_and_begun_anew(tiny, tmp_path, capfd):
    store = RunStore(tmp_path)
    store.checkpoint(tiny).write_bytes(b"half a checkpoint")
    sweep([tiny], store=store, workers=1, progress=False)
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "checkpoint" in line]
    assert line.startswith(str(store.checkpoint(tiny)))
    assert line.endswith("Delete it to start anew. That is done, and the search begins.")
    assert [path.suffix for path in tmp_path.iterdir()] == [".nc"]


def test_leftovers_are_removed_by_the_next_sweep(tiny, tmp_path):
    store, other = RunStore(tmp_path), tiny.replace(seed=1)
    sweep([tiny], store=store, workers=0, progress=False)
    record = store.path(tiny)
    left = [
        record.with_suffix(".lock"),
        record.with_suffix(".checkpoint"),
        store.path(other).with_suffix(".lock"),
        tmp_path / f".{record.name}.0a1b2c3d.part",
    ]
    kept = [
        record,
        store.checkpoint(other),
        tmp_path / f".{store.checkpoint(other).name}.0a1b2c3d.part",
        tmp_path / "Cargo.lock",
        tmp_path / "tmp_notes",
    ]
    for path in left + kept[1:]:
        path.touch()
    os.utime(left[-1], (1, 1))
    sweep([tiny, tiny.replace(seed=2)], store=store, workers=0, progress=False)
    assert [path.name for path in left if path.exists()] == []
    assert [path.name for path in kept if not path.exists()] == []
    with store.claim(tiny), store.claim(other):  # as another sweep, with fresh, that is at them
        store.checkpoint(tiny).touch()
        sweep([tiny, tiny.replace(seed=3)], store=store, workers=0, progress=False)
        assert store.checkpoint(tiny).exists()


def test_records_that_are_shipped_are_found_and_left_alone(tiny, tmp_path):
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    (first,) = sweep([tiny], store=shipped, workers=0, progress=False)
    store = RunStore(own, shipped)
    found, _ = sweep([tiny, tiny.replace(seed=1)], store=store, workers=0, progress=False)
    assert found.provenance == first.provenance
    assert [len(list(folder.iterdir())) for folder in (shipped, own)] == [1, 1]
    sweep([tiny], store=store, fresh=True, workers=0, progress=False)
    assert RunStore(shipped).get(tiny).provenance == first.provenance
    assert RunStore(own).get(tiny) is not None


def test_a_damaged_record_is_named_and_its_search_made_again(tiny, tmp_path):
    store = RunStore(tmp_path)
    store.path(tiny).write_bytes(b"half a record")
    store.checkpoint(tiny).touch()
    store.prepare()
    assert store.checkpoint(tiny).exists()  # its record is not whole
    store.checkpoint(tiny).unlink()
    with pytest.warns(UserWarning, match="not whole.*counts as missing"):
        (run,) = sweep([tiny], store=store, workers=0, progress=False)
    assert store.get(tiny).history.identical(run.history)
    assert {path.suffix for path in tmp_path.iterdir()} == {".nc"}


def test_a_store_that_cannot_be_written_is_refused_before_any_work(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("nascore.sweeps.parallel.advance", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(RecordError, match="cannot write to .*Choose another folder"):
        sweep([tiny], store=tmp_path / "file" / "runs", workers=0, progress=False)


def test_wrong_arguments(tiny, draw):
    with pytest.raises(ConfigError, match="workers=-1"):
        sweep([tiny], workers=-1)
    with pytest.raises(ConfigError, match="SearchConfig"):
        sweep([{"epochs": 3}])
    assert sweep([], progress=False) == []


MODULE = """
from nascore.engine import Mask
from nascore.frameworks import Framework

class Sharp(Framework):
    "DARTS with a temperature."

    heat: float = 0.5
    dense = True

    def draw(self, context):
        score = (context.alpha / self.heat).log_softmax(dim=1)
        return Mask(score.detach().exp(), score)
"""


@pytest.mark.long
def test_a_framework_of_ones_own_in_worker_processes(tiny, tmp_path, monkeypatch):
    """Its record is found again, until the class or what it inherits is edited."""
    file = tmp_path / "my_frameworks.py"
    file.write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    config = tiny.replace(framework="my_frameworks:Sharp", framework_options={"heat": 0.3})
    store = tmp_path / "store"
    runs = sweep([config], store=store, workers=1, progress=False)
    (again,) = sweep([config], store=store, workers=0, progress=False)
    assert again.provenance == runs[0].provenance
    assert RunStore(store).path(config).exists() and ":" not in RunStore(store).path(config).name
    assert histories(sweep([config], workers=0, progress=False))[0].identical(histories(runs)[0])
    before = config.hash
    file.write_text(MODULE.replace("/ self.heat", "/ self.heat / 2"), encoding="utf-8")
    linecache.checkcache()
    importlib.reload(importlib.import_module("my_frameworks"))
    assert config.hash != before and RunStore(store).get(config) is None
    assert [path.stem[-12:] for path in store.iterdir()] == [before]


def test_a_framework_of_a_notebook_runs_in_this_process(tiny, monkeypatch):
    """What is defined in __main__ has no module that a worker could import."""

    def draw(self, context):
        return super(Mine, self).draw(context)

    draw.__module__ = "__main__"
    Mine = type("Mine", (DARTS,), {"__module__": "__main__", "__qualname__": "Mine", "draw": draw})
    monkeypatch.setattr(sys.modules["__main__"], "Mine", Mine, raising=False)
    config = tiny.replace(framework=Mine, epochs=1)
    assert config.framework == "__main__:Mine"
    with pytest.raises(ConfigError, match=r"Mine is defined in a notebook .* Use workers=0"):
        sweep([config], workers=1, progress=False)
    (run,) = sweep([config], workers=0, progress=False)
    assert run.config == config


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_a_log_says_what_is_run_and_how_far_it_is_without_carriage_returns(
    tiny, tmp_path, capsys, monkeypatch, workers
):
    monkeypatch.setattr("nascore.runs.progress.SECONDS_BETWEEN_LINES", 0.1)
    monkeypatch.setattr("nascore.sweeps.parallel.FEW_STEPS", 0)
    store = RunStore(tmp_path)
    sweep([tiny], store=store, workers=0, progress=False)
    longer = tiny.replace(epochs=30)
    sweep([tiny, longer, longer.replace(seed=1)], store=store, workers=workers)
    said = capsys.readouterr().err
    plan, *lines = said.splitlines()
    number = max(workers, 1)
    assert plan == (
        f"searches: 2 to run, 1 loaded; on cpu, {number} at a time: about 1 min, by ten steps of "
        "each new kind"
    )
    assert "\r" not in said and all(line.startswith("searches:") for line in lines)
    assert any(
        re.search(r"\d/.* of 2 done, epoch \d+/30, loss .*, L-H .*, active", x) for x in lines
    )
    assert "100%" in lines[-1] and f"{2 * longer.steps}/{2 * longer.steps}" in lines[-1]
    assert "2 of 2 done" in lines[-1]


def test_the_time_that_a_sweep_takes_is_that_of_its_kind_where_it_is_recorded(
    tiny, tmp_path, capsys, monkeypatch
):
    """By records that this machine made; those that come with the book are of another one."""
    monkeypatch.setattr("nascore.sweeps.parallel.FEW_STEPS", 0)
    monkeypatch.setattr("nascore.sweeps.parallel._step_seconds", lambda config, stop: 60)
    configs = [tiny.replace(seed=seed) for seed in range(4)]

    def planned(store, *more):
        sweep([*configs, *more], store=store, workers=0)
        return capsys.readouterr().err.splitlines()[0].partition("at a time: ")[2]

    made = [search(config, progress=False) for config in configs[:2]]
    for run in made:
        run.provenance["wall_seconds"] = 600.0
        RunStore(tmp_path / "here").put(run)
    other = tiny.replace(epochs=1)
    with_book = RunStore(tmp_path / "new", shipped=tmp_path / "here")
    assert planned(with_book) == f"about {2 * tiny.steps} min, by ten steps of each new kind"
    assert planned(RunStore(tmp_path / "here")) == "about 20 min, by records of the same kind"
    for config in configs[2:]:
        RunStore(tmp_path / "here").path(config).unlink()
    both = f"about {20 + other.steps} min, by ten steps of each new kind"
    assert planned(tmp_path / "here", other) == both


def test_workers_choose_themselves(tiny, monkeypatch):
    """One a core, on a GPU as many as its memory holds: here 12 GiB are free, and each takes 4."""

    def never():
        return False

    several, gib = [tiny, tiny.replace(seed=1)], 2**30
    monkeypatch.setattr(parallel, "cpu_count", lambda: 20)
    assert [_fitting(configs, never) for configs in ([], [tiny], several)] == [0, 0, 20]
    monkeypatch.setattr(parallel, "find_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (12 * gib, 16 * gib))
    for reserved, number in ((3 * gib, 3), (gib // 10, 8), (12 * gib, 0)):
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device, n=reserved: n)
        assert _fitting(several, never) == number
    monkeypatch.setattr(parallel, "find_device", torch.device)
    assert _fitting([tiny.replace(device=name) for name in ("cpu", "meta")], never) == 0


def test_what_is_all_there_needs_no_folder_to_write_to(tiny, tmp_path):
    (run,) = sweep([tiny], store=tmp_path, workers=0, progress=False)
    nowhere = RunStore("/dev/null/runs", shipped=tmp_path)
    (found,) = sweep([tiny], store=nowhere, progress=False)
    assert found.config == run.config
    sweep([], store=tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


def test_a_cluster_may_have_devices_that_are_not_here(tiny):
    with pytest.raises(ConfigError, match="no Dask scheduler answers"):
        sweep([tiny.replace(device="cuda:63")], scheduler="tcp://127.0.0.1:1", progress=False)
