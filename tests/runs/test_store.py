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
    other = store.path(run.config.replace(seed=9))
    path.rename(other)
    with pytest.warns(UserWarning, match="holds a run of another config"):
        assert store.get(run.config.replace(seed=9)) is None
    assert [path.name for path in store.folder.iterdir()] == [f"{other.name}.damaged"]


def test_a_damaged_record_is_named_set_aside_and_counts_as_missing(run, tmp_path):
    store, shipped = RunStore(tmp_path / "runs", tmp_path / "book"), RunStore(tmp_path / "book")
    for kept in (store, shipped):
        path = kept.put(run)
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.warns(UserWarning) as warnings:
        assert store.get(run.config) is None  # neither ours nor the shipped one
    own, theirs = (str(warning.message) for warning in warnings)
    assert str(store.path(run.config)) in own and "set aside as" in own
    assert str(shipped.path(run.config)) in theirs and "set aside" not in theirs
    assert shipped.path(run.config).exists()  # what is shipped is never written to
    assert [path.suffix for path in store.folder.iterdir()] == [".damaged"]
    store.put(run)
    assert store.get(run.config).history.identical(run.history)
    store.path(run.config).write_bytes(b"")
    with pytest.warns(UserWarning, match="set aside"):
        assert list(store) == []


def test_a_record_that_cannot_be_read_stays_where_it_is(run, tmp_path):
    store = RunStore(tmp_path)
    store.path(run.config).mkdir()
    with pytest.raises(RecordError, match="is not a file"):
        store.get(run.config)
    assert store.path(run.config).exists()


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
