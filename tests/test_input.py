"""Bad input: one line that names it, before any work, and an exit code that is not 0."""

import os
import sys

import numpy as np
import pytest

import nascore.evidence
import nascore.runs
from nascore import Run, RunStore, SearchConfig, SearchSpace, Supernet, Wiring, search, sweep
from nascore.__main__ import main
from nascore.engine import build_operation, parse_edge
from nascore.errors import ConfigError, Interrupted, RecordError
from nascore.frameworks import make_framework
from nascore.runs import dataset
from nascore.runs.algorithm import Search
from nascore.runs.history import History

TINY = "search --dataset synthetic --cells 1 --channels 4 --batch-size 32 --epochs 1 --no-augment"
LONG, DIGITS = "x" * 300, "9" * 400

BAD_SEARCHES = [  # what reads a line, and what refuses it; every field is in test_config.py
    *("--nodes -1", "--epochs many", "--epochs none", "--lr nan", "--lr 1e999", "--inputs 3"),
    *("--train-examples 257", "--seed " + "9" * 5000, "--augment yes", "--norm group"),
    *("--framework dart", "--framework ''", "--framework no.module:X", "--framework json:dumps"),
    *("--framework ..:X", "--framework pytest.__main__:X", f"--dataset {LONG}"),
    *("--option 3", "--option heat=3", "--framework snas --option temperature=hot"),
    *("--operations ''", "--operations 3", "--output-nodes a"),
    *(f"--allowed {value}" for value in ("{", "[]", "[" * 100_000, """'{"(0,2)":3}'""")),
    f"""--allowed '{{"({DIGITS},2)":["none"]}}'""",
    *("--level bi --search-examples 0", "--order 2"),
    *("--device meta", "--device nowhere", "--device cuda:99", "--device ''"),
    *("--unknown 3", "--epochs", "extra", "--quiet=3"),
    *("--out file/x.nc", "--out .", "--out folder"),
    *("--out /proc/x.nc", "--out loop/x.nc", "--store file", "--store /proc/runs"),
]
BAD_SHOWS = [
    *("", "nothing.nc", ".", "file", "fifo", "text.nc", LONG, "loop", "file/x.nc"),
    *("one.nc two.nc", "--unknown x.nc"),
]
BAD_SWEEPS = [
    *("", "pictur", "no.module:mine", "json:dumps", "picture extra", "picture --set lr"),
    *("picture --profile labtop", "picture --profile", "--unknown picture"),
    *(f"picture --seeds {n} --store r" for n in (0, "many", 100_000_000, DIGITS)),
    *(f"picture --workers {n} --store r" for n in (-1, "many")),
    *("picture --profile smoke --store file", "picture --profile smoke --store /proc/runs"),
]
LINES = [f"{TINY} {line}" for line in BAD_SEARCHES]
LINES += [f"show {line}" for line in BAD_SHOWS] + [f"sweep {line}" for line in BAD_SWEEPS]
LINES += ["nonsense", "--unknown", "search --epochs=0 --cells=0"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with things in it that are no place for a record."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.nc").write_text("no record", encoding="utf-8")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr(Search, "epoch", lambda *a, **k: pytest.fail("it has begun"))
    return tmp_path


def call(monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["nascore", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


def words_of(line):
    """A line's words; a shell's own parser takes long for the longest."""
    return [word.strip("'") for word in line.split(" ")]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.removeprefix(TINY)[:60])
def test_a_bad_command_line_is_one_line(folder, monkeypatch, capsys, line):
    assert call(monkeypatch, words_of(line.rstrip())) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("Error: ") and output.err.count("\n") == 1
    assert len(output.err) < 1500 and "Traceback" not in output.err
    assert not list(folder.glob("**/*.nc"))[1:]  # but for text.nc


@pytest.mark.parametrize("operations", ["none", "none,skip_connect"])
def test_none_is_a_name_where_it_is_one(tmp_path, monkeypatch, operations):
    words = f"{TINY} --norm none --operations {operations} --quiet --out x.nc"
    monkeypatch.chdir(tmp_path)
    assert not call(monkeypatch, [*words.split(), "--grad-clip", "none", "--cost-clamp", "2.5"])
    config = Run.load("x.nc").config
    assert config.norm == "none" and config.operations == tuple(operations.split(","))
    assert config.grad_clip is None and config.cost_clamp == 2.5


@pytest.mark.parametrize(
    "error, code, said",
    [
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (MemoryError(), 2, "MemoryError"),
        (MemoryError("memory ran out"), 2, "memory ran out"),
        (RuntimeError("torch says\n\n  much"), 2, "torch says much"),
        (RecursionError("too deep"), 2, "too deep"),
        (RecordError("x.nc is damaged"), 2, "x.nc is damaged"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Interrupted("stopped. Search again."), 130, "stopped. Search again."),
        (Interrupted("stopped. Search again.", 15), 143, "stopped. Search again."),
    ],
    ids=repr,
)
def test_what_ends_a_search_is_one_line(folder, monkeypatch, capsys, error, code, said):
    def fail(*args, **named):
        raise error

    monkeypatch.setattr("nascore.runs.loop.search", fail)
    assert call(monkeypatch, TINY.split()) == code
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_mistake_of_the_package_keeps_its_traceback(folder, monkeypatch):
    monkeypatch.setattr("nascore.runs.loop.search", lambda *a, **k: {}["no such key"])
    monkeypatch.setattr(sys, "argv", ["nascore", *TINY.split()])
    with pytest.raises(KeyError):
        main()


def test_a_disk_that_is_full_before_the_search(folder, monkeypatch, capsys):
    def full(*args, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nascore.folders.TemporaryFile", full)
    assert call(monkeypatch, TINY.split()) == 2
    assert "cannot write to runs (No space left on device)" in capsys.readouterr().err


SPACE = SearchSpace()
CONFIG = SearchConfig(dataset="synthetic")
EXPERIMENTS = nascore.evidence

WRONG_CALLS = {
    # SearchConfig
    "SearchConfig(framework=3)": lambda: SearchConfig(framework=3),
    "SearchConfig(operations=[[]])": lambda: SearchConfig(operations=[[]]),
    "SearchConfig(allowed={(0, 2): 3})": lambda: SearchConfig(allowed={(0, 2): 3}),
    # runs
    "search(3)": lambda: search(3),
    "search(checkpoint=3)": lambda: search(CONFIG, checkpoint=3),
    "search(threads=0)": lambda: search(CONFIG, threads=0),
    "sweep(config)": lambda: sweep(CONFIG),
    "sweep([3])": lambda: sweep([3]),
    "sweep(workers='two')": lambda: sweep([CONFIG], workers="two"),
    "Search(3)": lambda: Search(3),
    "Run(3, 3, 3)": lambda: Run(3, 3, 3),
    "Run.load(3)": lambda: Run.load(3),
    "RunStore(3)": lambda: RunStore(3),
    "store.get(3)": lambda: RunStore("runs").get(3),
    "store.put(3)": lambda: RunStore("runs").put(3),
    "dataset(3)": lambda: dataset(3, examples=1, classes=1, channels=1),
    "DATASETS[[]]": lambda: nascore.runs.DATASETS[[]],
    # engine
    "SearchSpace(nodes=1.5)": lambda: SearchSpace(nodes=1.5),
    "SearchSpace(nodes=10**9)": lambda: SearchSpace(nodes=10**9),
    "SearchSpace(allowed={3: []})": lambda: SearchSpace(allowed={3: []}),
    "SearchSpace(output_nodes=['a'])": lambda: SearchSpace(output_nodes=["a"]),
    "Wiring(operations=[3])": lambda: Wiring(SPACE, (3, 3, 3, 3, 3)),
    "parse_edge(3)": lambda: parse_edge(3),
    "Supernet(3)": lambda: Supernet(3, classes=2),
    "Supernet(classes=0)": lambda: Supernet(SPACE, classes=0),
    "make_framework(3)": lambda: make_framework(3),
    "make_framework(temperature)": lambda: make_framework("snas", temperature="hot"),
    "framework('x')(3)": lambda: nascore.frameworks.framework("x")(3),
    "operation('x')(3)": lambda: nascore.engine.operation("x")(3),
    "operation('a:b')": lambda: nascore.engine.operation("a:b"),
    "build_operation(3)": lambda: build_operation(3, 4),
    "OPERATIONS[3]": lambda: nascore.engine.OPERATIONS[3],
    # evidence
    "run_experiment(3)": lambda: EXPERIMENTS.run_experiment(3),
    "run_experiment(store)": lambda: EXPERIMENTS.run_experiment({}, store=3),
    "configs_of(many)": lambda: EXPERIMENTS.configs_of("picture", "smoke", seeds=10**8),
    "configs_of(profile)": lambda: EXPERIMENTS.configs_of("picture", []),
    "experiment(seeds=3)": lambda: EXPERIMENTS.experiment({}, seeds=3),
}


@pytest.mark.parametrize("wrong", WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_a_wrong_call_is_a_config_error(folder, wrong):
    with pytest.raises(ConfigError) as error:
        wrong()
    assert len(str(error.value)) < 1000


def test_a_run_says_what_is_wrong(folder, monkeypatch):
    run = Run(CONFIG, History(SPACE, epochs=150, cells=8).to_xarray(), {})
    for wrong in (lambda: run.save(3), lambda: run.wiring_at("end"), lambda: run.wiring_at(151)):
        with pytest.raises(ConfigError):
            wrong()


def test_an_experiment_that_returns_no_configs_is_named():
    @EXPERIMENTS.experiment({"smoke": {"dataset": "synthetic"}}, seeds={"smoke": 1})
    def mine(base):
        return [base]

    with pytest.raises(ConfigError, match="experiment 'mine' returns .*a config for each arm"):
        EXPERIMENTS.configs_of("mine", "smoke")


def test_numbers_of_numpy_are_numbers():
    assert SearchSpace(nodes=np.int64(3)) == SearchSpace(nodes=3)
    assert SearchConfig(epochs=np.int64(3), lr=np.float64(0.1)) == SearchConfig(epochs=3, lr=0.1)
    assert len(EXPERIMENTS.configs_of("picture", "smoke", seeds=np.int64(2))["one level"]) == 2
