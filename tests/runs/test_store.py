import os

import pytest

from nascore import Run, RunStore, search
from nascore.errors import RecordError


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
