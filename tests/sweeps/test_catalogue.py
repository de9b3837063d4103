"""What a folder of records holds."""

import json
import os
from dataclasses import replace

import h5py
import numpy as np
import pytest

from nascore import RunStore
from nascore.errors import RecordError
from nascore.runs.seal import seal
from nascore.sweeps.catalogue import final_wiring, table


@pytest.fixture
def store(run, tmp_path):
    """A store with one whole record."""
    store = RunStore(tmp_path / "runs")
    store.put(run)
    return store


def test_a_row_says_what_was_searched_and_how(run, store):
    (row,) = table([store.folder]).to_dict("records")
    path = store.path(run.config)
    assert (row["path"], row["state"]) == (str(path), "whole")
    assert row["bytes"] == path.stat().st_size
    fields = run.config.model_dump(mode="json", exclude={"device"})
    assert {name: row[name] for name in fields} == fields
    for name in ("started", "wall_seconds", "threads", "device"):  # that on which it ran
        assert row[name] == run.provenance[name]


def test_a_wiring_in_the_catalogue_is_that_of_the_run(run, store):
    text = "(0,2) none; (1,2) none; (0,3) none; (1,3) none; (2,3) skip_connect"
    history = run.history.copy(deep=True)
    history["probability"][-1] = np.nan
    chosen, diverged = replace(run, chosen=text), replace(run, history=history)
    for one in (run, chosen):
        expected = dict(zip(run.history.edge.values, one.wiring.operations, strict=True))
        assert final_wiring(store.put(one)) == expected
        assert json.loads(one.to_json())["wiring"] == expected
    assert final_wiring(store.put(diverged)) is None
    shown = json.loads(diverged.to_json(), parse_constant=pytest.fail)
    assert shown["wiring"] is None and set(shown["none_probability"].values()) == {None}


@pytest.mark.parametrize("raw", [b"", b"no record", None])
def test_a_damaged_record_is_listed_and_not_opened(raw, run, store, monkeypatch):
    """HDF5 may wait for ever over one."""
    path = store.path(run.config)
    path.write_bytes(path.read_bytes().replace(b"HDF", b"hdf") if raw is None else raw)
    path.with_name("x.nc").touch()
    monkeypatch.setattr(h5py, "File", lambda *_, **__: pytest.fail("it was opened"))
    rows = table([store.folder]).to_dict("records")
    assert [row["state"] for row in rows] == ["damaged", "damaged"]
    assert "framework" not in rows[0]


def test_of_a_record_two_texts_are_read_once(run, store, monkeypatch):
    """So a store of a thousand records is listed in two seconds."""
    store.put(type(run)(run.config.replace(seed=9), run.history, run.provenance))
    text, opened = h5py.AttributeManager.__getitem__, []
    monkeypatch.setattr(
        h5py.AttributeManager, "__getitem__", lambda *a: opened.append(a[1]) or text(*a)
    )
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("an array was read"))
    assert len(table([store.folder])) == 2
    assert opened == ["config", "provenance"] * 2


def test_what_cannot_be_read_is_not_called_damaged(tmp_path):
    (tmp_path / "folder.nc").mkdir()
    os.mkfifo(tmp_path / "pipe.nc")
    records = table([tmp_path])
    assert [os.path.basename(path) for path in records["path"]] == ["folder.nc", "pipe.nc"]
    assert list(records["state"]) == ["unreadable", "unreadable"]


def test_a_folder_that_is_empty_or_not_there(tmp_path):
    assert len(table([tmp_path])) == 0
    with pytest.raises(RecordError, match="nowhere: No such file or directory. Give a folder"):
        table([tmp_path / "nowhere"])


def test_a_sealed_file_of_another_kind_does_not_hide_the_others(run, store):
    other = store.folder / "a.nc"
    other.write_bytes(b"no HDF5")
    seal(other)
    with h5py.File(store.folder / "b.nc", "w") as file:
        file.attrs["config"] = "{"
    seal(store.folder / "b.nc")
    states = [row["state"] for row in table([store.folder]).to_dict("records")]
    assert states == ["unreadable", "unreadable", "whole"]
