"""What a folder of records holds."""

import json
import math
import os
import sys

import h5py
import pytest
import xarray as xr

from nascore import Run, RunStore, SearchConfig, search
from nascore.errors import ConfigError, RecordError
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
    assert (row["path"], row["state"]) == (str(path), "whole")
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
    assert list(table["state"]) == [state]


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


def test_a_record_whose_plug_in_is_away_is_listed(tiny, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = tmp_path / "a_plug_in_that_goes.py"
    module.write_text("from nascore.engine import DARTS\nclass Mine(DARTS):\n    luck: int = 1\n")
    store = RunStore(tmp_path / "runs")
    path = store.put(search(tiny.replace(framework="a_plug_in_that_goes:Mine"), progress=False))
    module.unlink()
    monkeypatch.delitem(sys.modules, "a_plug_in_that_goes")
    with pytest.raises(RecordError, match="a_plug_in_that_goes"):
        Run.load(path)
    row = only_row(store.folder)  # the list needs no plug-in
    assert row["state"] == "whole" and row["framework"] == "a_plug_in_that_goes:Mine"


def test_an_empty_folder(tmp_path):
    table = catalogue.files([tmp_path])
    assert len(table) == 0 and list(table) == list(catalogue.COLUMNS)
    none = catalogue.select(table, {"seed": 1, "lr": 0.1})
    assert len(none) == 0 and list(none) == list(table)


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
