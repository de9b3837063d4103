"""What a folder of records holds, and what of it may go."""

import os
import sys

import h5py
import pytest
import xarray as xr
from filelock import FileLock

from nascore import RunStore, search
from nascore.errors import ConfigError, RecordError
from nascore.runs.loop import Searcher
from nascore.sweeps import catalogue


@pytest.fixture
def store(run, tmp_path):
    """A store with one whole record."""
    store = RunStore(tmp_path / "runs")
    store.put(run)
    return store


def made_long_ago(path):
    os.utime(path, (1, 1))
    return path


def test_an_entry_says_what_was_searched_and_how(run, store):
    (entry,) = catalogue.entries(store.folder)
    assert (entry.name, entry.state) == (run.config.hash, "whole")
    assert dict(entry.config) == run.config.model_dump(mode="json")
    assert dict(entry.provenance) == run.provenance
    assert entry.size == store.path(run.config).stat().st_size and 0 <= entry.age < 3600
    assert entry.to_json()["bytes"] == entry.size


@pytest.mark.parametrize("raw", [b"", b"no record", None])
def test_a_damaged_record_is_listed_by_its_name(raw, run, store):
    path = store.path(run.config)
    flipped = bytearray(path.read_bytes())
    flipped[1000] ^= 1
    path.write_bytes(flipped if raw is None else raw)
    (entry,) = catalogue.entries(store.folder)
    assert (entry.name, entry.state, entry.age) == (run.config.hash, "damaged", None)
    line = catalogue.listing([entry]).splitlines()[1]
    assert line.split()[:6] == [run.config.hash, "-", "-", "-", "-", "-"]
    assert line.endswith("damaged")


def test_a_record_that_another_program_has_written_is_unsealed(run, store):
    path = store.path(run.config)
    record = xr.load_dataset(path, engine="h5netcdf")
    record.to_netcdf(path, engine="h5netcdf")
    (entry,) = catalogue.entries(store.folder)
    assert entry.state == "unsealed" and entry.get("cells") == 2
    assert catalogue.verify(path) == ("whole", "")
    del record.attrs["sha256"]
    record.to_netcdf(path, engine="h5netcdf")
    state, why = catalogue.verify(path)
    assert state == "bad" and "made before records had a checksum" in why


@pytest.mark.parametrize(
    "config, provenance, state",
    [
        ("{}", "{}", "damaged"),
        ("[]", "{}", "damaged"),
        ('{"framework": 1}', "{}", "damaged"),
        ('{"framework": "dsnas", "framework_options": []}', "{}", "damaged"),
        ('{"framework": "dsnas"}', '{"wall_seconds": "1"}', "damaged"),
        ('{"framework": "dsnas"}', '{"wall_seconds": NaN, "started": 1}', "unsealed"),
    ],
)
def test_a_file_of_another_kind_is_listed(config, provenance, state, tmp_path):
    with h5py.File(tmp_path / "x.nc", "w") as file:
        file.attrs.update({"config": config, "provenance": provenance})
    (entry,) = catalogue.entries(tmp_path)
    assert entry.state == state and state in catalogue.listing([entry])


def test_records_are_selected_by_fields_and_options(tiny, tmp_path):
    store = RunStore(tmp_path)
    config = tiny.replace(framework="snas", framework_options={"temperature": 0.5}, epochs=1)
    for one in (config, config.replace(seed=1), tiny.replace(grad_clip=None, epochs=1)):
        store.put(search(one, progress=False))
    store.path(tiny).write_bytes(b"damaged")
    found = list(catalogue.entries(tmp_path))

    def seeds(**where):
        where = dict(catalogue.condition(name, value) for name, value in where.items())
        return sorted((entry.get("framework"), entry.get("seed")) for entry in found_by(where))

    def found_by(where):
        return catalogue.select(found, where)

    assert len(found) == 4 and len(found_by({})) == 4
    assert seeds(framework="snas") == [("snas", 0), ("snas", 1)]
    assert seeds(temperature=0.5, seed="1") == [("snas", 1)]
    assert seeds(grad_clip=None) == [("dsnas", 0)]
    assert seeds(lr=0.025, epochs=1, operations=tiny.operations, seed=0) == [
        ("dsnas", 0),
        ("snas", 0),
    ]
    assert seeds(seed=7) == []


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("epochs", "many", "epochs='many': input should be a valid integer"),
        ("epochs", 0, "epochs=0: input should be greater than or equal to 1"),
        ("lr", float("nan"), "lr=nan: input should be a finite number"),
        ("level", "both", "level='both': input should be 'single' or 'bi'"),
        ("lt", 1, "unknown field 'lt'. Did you mean 'lr'"),
    ],
)
def test_a_condition_that_no_record_can_meet(name, value, message):
    with pytest.raises(ConfigError, match=message) as error:
        catalogue.select([], dict([catalogue.condition(name, value)]))
    assert "\n" not in str(error.value)


def test_verify_names_what_is_bad_and_why(run, store, tmp_path):
    path = store.path(run.config)
    assert catalogue.verify(path) == ("whole", "")
    other = store.path(run.config.replace(seed=9))
    other.write_bytes(path.read_bytes())
    state, why = catalogue.verify(other)
    assert state == "bad" and f"{other} holds a run of another config, {run.config.hash}" in why
    path.write_bytes(path.read_bytes()[:-1000])
    state, why = catalogue.verify(path)
    assert state == "bad" and str(path) in why
    pipe = tmp_path / "pipe.nc"
    os.mkfifo(pipe)
    state, why = catalogue.verify(pipe)
    assert state == "bad" and "is not a file" in why


def test_verify_reads_checkpoints(tiny, tmp_path):
    store = RunStore(tmp_path)
    path = store.checkpoint(tiny)
    Searcher(tiny).save(path)
    assert catalogue.verify(path) == ("whole", "")
    other = path.rename(store.checkpoint(tiny.replace(seed=1)))
    state, why = catalogue.verify(other)
    assert state == "bad" and "of another search than its name says" in why
    other.write_bytes(other.read_bytes()[:-1])
    state, why = catalogue.verify(other)
    assert state == "bad" and "not a whole checkpoint" in why


def test_a_record_whose_plug_in_is_away_is_not_called_bad(tiny, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = tmp_path / "a_plug_in_that_goes.py"
    module.write_text("from nascore.engine import DARTS\nclass Mine(DARTS):\n    luck: int = 1\n")
    store = RunStore(tmp_path / "runs")
    path = store.put(search(tiny.replace(framework="a_plug_in_that_goes:Mine"), progress=False))
    module.unlink()
    monkeypatch.delitem(sys.modules, "a_plug_in_that_goes")
    state, why = catalogue.verify(path)
    assert state == "unknown" and "a_plug_in_that_goes" in why and str(path) in why
    (entry,) = catalogue.entries(store.folder)  # the list needs no plug-in
    assert entry.state == "whole" and entry.get("framework") == "a_plug_in_that_goes:Mine"


def test_sizes_add_up(run, store):
    (store.folder / "x.nc.damaged").write_bytes(bytes(10))
    store.checkpoint(run.config.replace(seed=1)).write_bytes(bytes(20))
    (store.folder / "tmp12345678").mkdir()
    (store.folder / "tmp12345678" / "x.nc").write_bytes(bytes(30))
    size = store.path(run.config).stat().st_size
    used = {catalogue.but_seed(run.config.replace(seed=5).model_dump(mode="json")): ["a", "b"]}
    found = catalogue.sizes(store.folder, used)
    assert found["kind"] == {
        "records": (1, size),
        "checkpoints": (1, 20),
        "damaged": (1, 10),
        "leftovers": (1, 30),
    }
    assert found["framework"] == {"dsnas": (1, size)}
    assert found["experiment"] == {"a": (1, size), "b": (1, size)}
    assert catalogue.sizes(store.folder, {})["experiment"] == {"of none": (1, size)}
    store.path(run.config).write_bytes(b"damaged")
    needed = {catalogue.but_seed({}): ["the defaults"]}
    assert catalogue.sizes(store.folder, needed)["experiment"] == {"damaged": (1, 7)}


def test_only_what_was_asked_for_may_go(run, store):
    damaged = store.folder / "x.nc.damaged"
    damaged.touch()
    part = store.folder / "tmp12345678"
    part.mkdir()
    beside = store.checkpoint(run.config)
    beside.touch()
    waiting = store.checkpoint(run.config.replace(seed=1))
    waiting.touch()
    record = store.path(run.config)
    assert catalogue.removable(store.folder) == []
    assert catalogue.removable(store.folder, damaged=True) == [damaged]
    assert catalogue.removable(store.folder, leftovers=True) == [beside]  # it is being written
    made_long_ago(part)
    leftovers = catalogue.removable(store.folder, leftovers=True)
    assert leftovers == [beside, part]
    used = {catalogue.but_seed(run.config.model_dump(mode="json"))}
    assert catalogue.removable(store.folder, experiments=used) == []
    assert catalogue.removable(store.folder, experiments=set()) == [record]
    catalogue.remove(leftovers)
    assert sorted(store.folder.iterdir()) == sorted([damaged, waiting, record])


def test_what_a_process_is_at_stays(run, store):
    store.checkpoint(run.config).touch()
    lock = store.path(run.config).with_suffix(".lock")
    asked = {"leftovers": True, "experiments": ()}
    with FileLock(lock):
        assert catalogue.removable(store.folder, **asked) == []
    lock.touch()
    free = catalogue.removable(store.folder, **asked)
    assert free == [store.checkpoint(run.config), lock, store.path(run.config)]


def test_a_checkpoint_beside_a_damaged_record_stays(run, store):
    store.checkpoint(run.config).touch()
    store.path(run.config).write_bytes(store.path(run.config).read_bytes()[:-1000])
    assert catalogue.removable(store.folder, leftovers=True) == []


def test_nothing_of_the_book_may_go(tmp_path):
    for name in ("_config.yml", "_toc.yml"):
        (tmp_path / name).touch()
    records = tmp_path / "book" / "records"
    records.mkdir(parents=True)
    (tmp_path / "link").symlink_to(records)
    for folder in (records, tmp_path / "link"):
        with pytest.raises(ConfigError, match="comes with the book: nothing is removed there"):
            catalogue.removable(folder, damaged=True)


def test_what_cannot_be_read_is_not_called_damaged(tmp_path):
    (tmp_path / "folder.nc").mkdir()
    os.mkfifo(tmp_path / "pipe.nc")
    states = [(entry.name, entry.state) for entry in catalogue.entries(tmp_path)]
    assert states == [("folder", "unreadable"), ("pipe", "unreadable")]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RecordError, match="nowhere: No such file or directory. Give a folder"):
        list(catalogue.entries(tmp_path / "nowhere"))
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="file: Not a directory"):
        catalogue.paths(tmp_path / "file")


def test_a_list_opens_no_damaged_record(run, store, monkeypatch):
    """HDF5 may wait for ever over one."""
    path = store.path(run.config)
    path.write_bytes(path.read_bytes().replace(b"HDF", b"hdf"))
    monkeypatch.setattr(h5py, "File", lambda *_, **__: pytest.fail("it was opened"))
    (entry,) = catalogue.entries(store.folder)
    assert entry.state == "damaged"
