"""What a folder of records holds, and what of it may go."""

import json
import math
import os
import sys

import h5py
import pytest
import xarray as xr
from filelock import FileLock

from nascore import RunStore, SearchConfig, search
from nascore.errors import ConfigError, RecordError
from nascore.runs.loop import Searcher
from nascore.sweeps import catalogue


@pytest.fixture
def store(run, tmp_path):
    """A store with one whole record."""
    store = RunStore(tmp_path / "runs")
    store.put(run)
    return store


def only_row(folder):
    (row,) = catalogue.files([folder]).to_dict("records")
    return row


def names(table):
    return [os.path.basename(path) for path in table["path"]]


def test_a_row_says_what_was_searched_and_how(run, store):
    row, path = only_row(store.folder), store.path(run.config)
    assert (row["path"], row["kind"], row["state"]) == (str(path), "record", "whole")
    assert row["bytes"] == path.stat().st_size
    fields = run.config.model_dump(mode="json")
    assert {name: row[name] for name in fields} == fields
    for name in ("started", "wall_seconds", "threads"):
        assert row[name] == run.provenance[name]


def test_a_field_that_an_older_record_lacks_has_its_default(tmp_path):
    with h5py.File(tmp_path / "old.nc", "w") as file:
        config = {"framework": "snas", "temperature": 0.5, "operations": ["none"]}
        file.attrs.update({"config": json.dumps(config), "provenance": "{}"})
    row = only_row(tmp_path)
    defaults = json.loads(SearchConfig(framework="snas").model_dump_json())
    assert {name: row[name] for name in defaults} == {**defaults, "operations": ["none"]}
    assert row["temperature"] == 0.5 and math.isnan(row["started"])


def test_text_and_json_say_what_is_not_known(run, store):
    (store.folder / "x.nc.damaged").write_bytes(bytes(10))
    table = catalogue.files([store.folder])
    heading, record, damaged = catalogue.as_text(table[["path", "kind", "seed"]]).splitlines()
    assert heading.split() == ["kind", "seed"] and record.split()[1:] == ["record", "0"]
    assert damaged.split() == [str(store.folder / "x.nc.damaged"), "damaged", "-"]
    record, damaged = json.loads(catalogue.as_json(table))
    assert record["allowed"] == run.config.allowed | {"(2,3)": ["none", "skip_connect"]}
    assert damaged["bytes"] == 10 and damaged["seed"] is None


@pytest.mark.parametrize("raw", [b"", b"no record", None])
def test_a_damaged_record_is_listed(raw, run, store):
    path = store.path(run.config)
    flipped = bytearray(path.read_bytes())
    flipped[1000] ^= 1
    path.write_bytes(flipped if raw is None else raw)
    row = only_row(store.folder)
    assert (row["path"], row["state"]) == (str(path), "damaged")
    assert math.isnan(row["framework"]) and math.isnan(row["started"])


def test_a_record_that_another_program_has_written_is_unsealed(run, store):
    path = store.path(run.config)
    record = xr.load_dataset(path, engine="h5netcdf")
    record.to_netcdf(path, engine="h5netcdf")
    row = only_row(store.folder)
    assert row["state"] == "unsealed" and row["cells"] == 2
    assert catalogue.verify(path) == ("whole", "")
    del record.attrs["sha256"]
    record.to_netcdf(path, engine="h5netcdf")
    state, why = catalogue.verify(path)
    assert state == "bad" and str(path) in why and "sha256" in why


@pytest.mark.parametrize(
    "config, provenance, state",
    [
        ("{}", "{}", "damaged"),
        ("[]", "{}", "damaged"),
        ('{"framework": 1}', "{}", "damaged"),
        ('{"framework": "dsnas", "framework_options": []}', "{}", "damaged"),
        ('{"framework": "dsnas"}', "[]", "damaged"),
        ('{"framework": "dsnas"}', '{"wall_seconds": NaN, "started": 1}', "unsealed"),
    ],
)
def test_a_file_of_another_kind_is_listed(config, provenance, state, tmp_path):
    with h5py.File(tmp_path / "x.nc", "w") as file:
        file.attrs.update({"config": config, "provenance": provenance})
    table = catalogue.files([tmp_path])
    assert list(table["state"]) == [state] and state in catalogue.as_text(table)
    assert json.loads(catalogue.as_json(table))[0]["state"] == state


def test_records_are_selected_by_fields_and_options(tiny, tmp_path):
    store = RunStore(tmp_path)
    config = tiny.replace(framework="snas", framework_options={"temperature": 0.5}, epochs=1)
    for one in (config, config.replace(seed=1), tiny.replace(grad_clip=None, epochs=1)):
        store.put(search(one, progress=False))
    store.path(tiny).write_bytes(b"damaged")
    table = catalogue.files([tmp_path])

    def found(**where):
        chosen = catalogue.select(table, where)
        return sorted(zip(chosen["framework"], chosen["seed"], strict=True))

    assert len(table) == 4 and len(catalogue.select(table, {})) == 4
    assert found(framework="snas") == [("snas", 0), ("snas", 1)]
    assert found(temperature=0.5, seed="1") == [("snas", 1)]
    assert found(grad_clip=None) == [("dsnas", 0)]
    assert found(lr=0.025, epochs=1, operations=tiny.operations, seed=0) == [
        ("dsnas", 0),
        ("snas", 0),
    ]
    assert found(seed=7, lr=0.025) == []
    assert len(catalogue.select(table, {"state": "damaged"})) == 1


def test_an_option_with_the_name_of_a_field_is_not_taken_for_it(tmp_path):
    with h5py.File(tmp_path / "x.nc", "w") as file:
        options = {"seed": 3, "path": "elsewhere", "luck": 1}
        config = {"framework": "a:B", "framework_options": options, "seed": 1}
        file.attrs.update({"config": json.dumps(config), "provenance": "{}"})
    row = only_row(tmp_path)
    assert (row["seed"], row["path"], row["luck"]) == (1, str(tmp_path / "x.nc"), 1)


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
def test_a_condition_that_no_record_can_meet(name, value, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as error:
        catalogue.select(catalogue.files([tmp_path]), {name: value})
    assert "\n" not in str(error.value)


def test_verify_names_what_is_bad_and_why(run, store, tmp_path):
    path = store.path(run.config)
    assert catalogue.verify(path) == ("whole", "")
    other = store.path(run.config.replace(seed=9))
    other.write_bytes(path.read_bytes())
    state, why = catalogue.verify(other)
    assert state == "bad" and f"{other} is of another search than its name says" in why
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
    row = only_row(store.folder)  # the list needs no plug-in
    assert row["state"] == "whole" and row["framework"] == "a_plug_in_that_goes:Mine"


def test_sizes_add_up(run, store, tmp_path):
    (store.folder / "x.nc.damaged").write_bytes(bytes(10))
    store.checkpoint(run.config.replace(seed=1)).write_bytes(bytes(20))
    part = store.folder / "tmp12345678" / store.path(run.config).name
    part.parent.mkdir()
    part.write_bytes(bytes(30))
    broken = store.path(run.config.replace(seed=2))
    broken.write_bytes(b"damaged")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "y.nc.damaged").write_bytes(bytes(40))
    sizes = catalogue.sizes(catalogue.files([store.folder, tmp_path / "other"]))
    runs, size = str(store.folder), store.path(run.config).stat().st_size
    assert json.loads(catalogue.as_json(sizes)) == [
        dict(zip(("folder", "kind", "framework", "files", "bytes"), row, strict=True))
        for row in (
            (str(tmp_path / "other"), "damaged", None, 1, 40),
            (runs, "checkpoint", None, 1, 20),
            (runs, "damaged", None, 1, 10),
            (runs, "leftover", None, 1, 30),
            (runs, "record", "dsnas", 1, size),
            (runs, "record", None, 1, 7),
        )
    ]


def test_an_empty_folder(tmp_path):
    table = catalogue.files([tmp_path])
    assert len(table) == 0 and list(table) == list(catalogue.COLUMNS)
    assert len(catalogue.sizes(table)) == 0
    for none in (catalogue.remove(table), catalogue.select(table, {"seed": 1, "lr": 0.1})):
        assert len(none) == 0 and list(none) == list(table)
    assert json.loads(catalogue.as_json(table)) == []


def test_only_what_is_in_a_table_is_removed(run, store):
    damaged = store.folder / "x.nc.damaged"
    damaged.touch()
    beside, waiting = map(store.checkpoint, (run.config, run.config.replace(seed=1)))
    beside.touch()
    waiting.touch()
    record, lock = store.path(run.config), waiting.with_suffix(".lock")
    lock.touch()
    (store.folder / "my notes").touch()
    table = catalogue.files([store.folder])
    kinds = dict(zip(names(table), table["kind"], strict=True))
    assert kinds == {
        damaged.name: "damaged",
        beside.name: "leftover",
        waiting.name: "checkpoint",
        lock.name: "leftover",
        record.name: "record",
    }
    assert names(catalogue.remove(table[table["kind"] == "damaged"])) == [damaged.name]
    assert not damaged.exists() and beside.exists() and lock.exists()
    gone = catalogue.remove(table[table["kind"] == "leftover"])
    assert sorted(names(gone)) == sorted([beside.name, lock.name])
    kept = {record.name, waiting.name, "my notes"}
    assert {path.name for path in store.folder.iterdir()} == kept


def test_what_a_process_is_at_is_no_leftover(run, store):
    store.checkpoint(run.config).touch()
    lock = store.path(run.config).with_suffix(".lock")
    lock.touch()
    table = catalogue.files([store.folder])
    assert list(table["kind"]) == ["leftover", "leftover", "record"]
    with FileLock(lock):
        now = catalogue.files([store.folder])
        assert list(now["kind"]) == ["checkpoint", "record"]
        assert len(catalogue.remove(table[table["kind"] == "leftover"])) == 0
    assert lock.exists() and store.checkpoint(run.config).exists()


def test_a_checkpoint_beside_a_damaged_record_is_no_leftover(run, store):
    store.checkpoint(run.config).touch()
    store.path(run.config).write_bytes(store.path(run.config).read_bytes()[:-1000])
    table = catalogue.files([store.folder])
    assert list(table["kind"]) == ["checkpoint", "record"]
    assert len(list(store.folder.iterdir())) == 2  # its lock is gone, too


def test_what_comes_with_the_book_is_known(tmp_path):
    for name in ("_config.yml", "_toc.yml"):
        (tmp_path / name).touch()
    records = tmp_path / "book" / "records"
    (records / "more").mkdir(parents=True)
    (tmp_path / "link").symlink_to(records)
    assert all(map(catalogue.is_shipped, (records, records / "more", tmp_path / "link")))
    assert not catalogue.is_shipped(tmp_path / "runs")


def test_what_cannot_be_read_is_not_called_damaged(tmp_path):
    (tmp_path / "folder.nc").mkdir()
    os.mkfifo(tmp_path / "pipe.nc")
    table = catalogue.files([tmp_path])
    assert names(table) == ["folder.nc", "pipe.nc"]
    assert list(table["state"]) == ["unreadable", "unreadable"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RecordError, match="nowhere: No such file or directory. Give a folder"):
        catalogue.files([tmp_path / "nowhere"])
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="file: Not a directory"):
        catalogue.files([tmp_path / "file"])


def test_a_list_opens_no_damaged_record(run, store, monkeypatch):
    """HDF5 may wait for ever over one."""
    path = store.path(run.config)
    path.write_bytes(path.read_bytes().replace(b"HDF", b"hdf"))
    monkeypatch.setattr(h5py, "File", lambda *_, **__: pytest.fail("it was opened"))
    assert only_row(store.folder)["state"] == "damaged"
