import fcntl
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import nascore
from nascore import Run, RunStore, search
from nascore.errors import RecordError
from nascore.folders import seal, whole_file
from nascore.frameworks import DARTS, framework
from nascore.sweeps.store import final_wiring, table


def test_store_keeps_runs_under_their_config(run, tmp_path):
    store = RunStore(tmp_path / "runs")
    assert store.get(run.config) is None
    path = store.put(run)
    assert run.config.hash in path.name
    assert store.get(run.config).history.identical(run.history)
    assert store.get(run.config.replace(seed=9)) is None
    other = store.path(run.config.replace(seed=9))
    path.rename(other)
    with pytest.warns(UserWarning, match="holds a run of another config"):
        assert store.get(run.config.replace(seed=9)) is None


def test_a_damaged_record_is_named_and_counts_as_missing(run, tmp_path):
    store, shipped = RunStore(tmp_path / "runs", tmp_path / "book"), RunStore(tmp_path / "book")
    for kept in (store, shipped):
        path = kept.put(run)
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.warns(UserWarning) as warnings:
        assert store.get(run.config) is None  # neither ours nor the shipped one
    for kept, warning in zip((store, shipped), warnings, strict=True):
        assert str(warning.message).startswith(f"{kept.path(run.config)} is not whole")
    shipped.put(run)
    with pytest.warns(UserWarning, match="It counts as missing"):
        assert store.get(run.config).history.identical(run.history)
    store.put(run)
    assert store.get(run.config).history.identical(run.history)


def test_a_record_that_cannot_be_read_stays_where_it_is(run, tmp_path):
    store = RunStore(tmp_path)
    store.path(run.config).mkdir()
    with pytest.raises(RecordError, match="there is no file"):
        store.get(run.config)
    assert store.path(run.config).exists()


def test_a_record_that_another_program_has_locked_is_read(run, tmp_path):
    store = RunStore(tmp_path)
    with store.put(run).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert store.get(run.config).history.identical(run.history)


def test_the_name_of_a_record_is_bounded_and_of_letters_that_every_locale_has(run, tmp_path):
    """A plug-in's module may have any name; the hash is the address."""

    @framework("ü" * 300)
    class Long(DARTS):
        pass

    config = run.config.replace(framework=Long)
    path = RunStore(tmp_path).put(Run(config, run.history, run.provenance))
    assert path.name == f"{'_' * 24}-bi-synthetic-seed0-{config.hash}.nc"


def test_a_store_finds_its_own_records_before_shipped_ones(run, tmp_path):
    shipped, store = RunStore(tmp_path / "book"), RunStore(tmp_path / "runs", tmp_path / "book")
    assert store.get(run.config) is None
    shipped.put(replace(run, provenance={"by": "them"}))
    assert store.get(run.config).provenance == {"by": "them"}
    assert store.get(run.config.replace(seed=9)) is None
    store.put(replace(run, provenance={"by": "us"}))
    assert store.get(run.config).provenance == {"by": "us"}


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


def test_a_file_is_on_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: calls.append("flush") or fsync(file))
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("move") or replace(*paths))
    with whole_file(tmp_path / "file") as part:
        part.write_text("whole", encoding="utf-8")
        assert part.parent == tmp_path
    assert calls == ["flush", "move", "flush"]  # the file, and then its name
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(ValueError), whole_file(tmp_path / "file") as part:
        part.write_text("half", encoding="utf-8")
        raise ValueError
    assert (tmp_path / "file").read_text(encoding="utf-8") == "whole" and len(
        list(tmp_path.iterdir())
    ) == 1


def test_a_part_of_a_file_is_removed_after_an_hour(tiny, tmp_path):
    store = RunStore(tmp_path)
    with whole_file(store.path(tiny)) as part:
        part.touch()
        store.prepare()
        assert part.exists()
        os.utime(part, (1, 1))
        store.prepare()
        assert not part.exists()
        part.touch()


def test_what_is_left_over_is_removed_unless_a_process_is_at_it(run, tmp_path):
    store, other = RunStore(tmp_path), run.config.replace(seed=9)
    record = store.put(run)
    left = {record.with_suffix(".checkpoint"), store.path(other).with_suffix(".lock")}
    for path in (*left, store.checkpoint(other), tmp_path / "a.lock"):
        path.touch()
    everything = set(tmp_path.iterdir())
    with store.claim(run.config), store.claim(other):
        store.prepare()
        assert everything < set(tmp_path.iterdir())
    for path in left:
        path.touch()
    store.prepare()
    assert set(tmp_path.iterdir()) == everything - left


def test_a_claim_is_for_one_at_a_time(tiny, tmp_path):
    store, again = RunStore(tmp_path), RunStore(tmp_path)
    with store.claim(tiny) as first, again.claim(tiny) as second:
        assert first and not second
        with again.claim(tiny.replace(seed=1)) as other:
            assert other
    with again.claim(tiny) as third:
        assert third
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_for_every_user_of_the_folder(tiny, tmp_path, umask):
    store = RunStore(tmp_path)
    with store.claim(tiny) as ours:
        (lock,) = tmp_path.iterdir()
        assert ours and lock.stat().st_mode & 0o777 == 0o666
    assert list(tmp_path.iterdir()) == []


HOLD = """
import os, sys, time
from pathlib import Path
import filelock
from nascore.folders import held

user, seconds = map(int, sys.argv[2:])
os.setgroups([4000])  # only now: Python itself may be in a folder of root's own
os.setgid(user)
os.setuid(user)
os.umask(0o022)
with held(Path(sys.argv[1])) as ours:
    print(ours, flush=True)
    time.sleep(seconds)
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs two users")
def test_two_users_share_a_folder(tiny):
    """Whose group may write to it: what the first one's killed process left blocks nobody."""
    environment = os.environ | {"PYTHONPATH": str(Path(nascore.__file__).parents[1])}

    def hold(*user_and_seconds):
        words = [sys.executable, "-c", HOLD, lock, *map(str, user_and_seconds)]
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE)

    with tempfile.TemporaryDirectory() as folder:  # pytest's own are for one user
        os.chown(folder, -1, 4000)
        os.chmod(folder, 0o2775)
        lock = RunStore(folder).path(tiny).with_suffix(".lock")
        with hold(4001, 60) as first:
            assert first.stdout.readline() == b"True\n"
            assert hold(4002, 0).communicate()[0] == b"False\n"
            first.kill()
        assert lock.exists()
        assert hold(4002, 0).communicate()[0] == b"True\n"
        assert os.listdir(folder) == []


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
