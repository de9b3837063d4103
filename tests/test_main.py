"""The command line."""

import io
import json
import sys
from pathlib import Path

import pytest

from nascore import Run, SearchConfig
from nascore.__main__ import app, main, parse_settings

ROOT = Path(__file__).parent.parent
TINY = [
    *("search", "--dataset", "synthetic", "--train-examples", "64", "--valid-examples", "32"),
    *("--no-augment", "--cells", "1", "--channels", "4", "--batch-size", "32", "--epochs", "1"),
]


@pytest.fixture
def run_command(monkeypatch, tmp_path):
    """Runs a command line in an empty folder; returns its exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["nascore", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0

    return call


def test_every_config_field_is_an_option_with_its_help():
    import typer

    command = typer.main.get_command(app).commands["search"]
    options = {parameter.name: parameter for parameter in command.params}
    for name, field in SearchConfig.model_fields.items():
        if name == "framework_options":
            continue  # --option, one by one
        assert f"--{name.replace('_', '-')}" in options[name].opts
        assert field.description in options[name].help.replace(r"\[", "[")


def test_search_and_show(run_command, capsys, tmp_path):
    assert run_command(*TINY, "--framework", "snas", "--option", "temperature=0.5") == 0
    output = capsys.readouterr()
    assert "epoch 1/1" in output.err and "L-H" in output.err
    path = output.out.strip().splitlines()[-1]
    run = Run.load(path)
    assert run.config.framework == "snas"
    assert run.config.framework_options == {"temperature": 0.5}
    assert run.config.augment is False
    assert run_command("show", path) == 0
    assert "final wiring" in capsys.readouterr().out
    assert run_command("show", path, "--json") == 0
    shown = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    wiring = dict(zip(run.history.edge.values, run.wiring.operations, strict=True))
    assert shown["wiring"] == wiring and shown["none_probability"].keys() == wiring.keys()
    assert SearchConfig(**shown["config"]) == run.config and shown["provenance"] == run.provenance
    assert [row["epoch"] for row in shown["epochs"]] == [0, 1]
    assert shown["epochs"][1]["loss"] == pytest.approx(run.mean_loss.values[1, 0])


def test_quiet_prints_only_the_path(run_command, capsys, tmp_path):
    assert run_command(*TINY, "--quiet", "--out", tmp_path / "x.nc") == 0
    output = capsys.readouterr()
    assert output.err == "" and output.out.strip() == str(tmp_path / "x.nc")


def test_a_search_that_is_recorded_is_not_run_again(run_command, capsys, monkeypatch):
    assert run_command(*TINY, "--quiet") == 0
    monkeypatch.setattr("nascore.runs.loop.search", lambda *a, **k: pytest.fail("it ran again"))
    assert run_command(*TINY, "--quiet") == 0
    first, second = capsys.readouterr().out.split()
    assert first == second and Run.load(first)


def test_where_the_record_goes_is_checked_before_the_search(
    run_command, capsys, monkeypatch, tmp_path
):
    (tmp_path / "file").touch()
    monkeypatch.setattr("nascore.runs.loop.search", lambda *a, **k: pytest.fail("it has begun"))
    for words in (["--out", "file/x.nc"], ["--store", "file/runs"]):
        assert run_command(*TINY, *words) == 2
        assert "cannot write to file" in capsys.readouterr().err


def test_lists_and_json(run_command, capsys, tmp_path):
    code = run_command(
        *TINY, "--quiet", "--out", tmp_path / "x.nc",
        "--operations", "none,skip_connect, sep_conv_3x3",
        "--allowed", '{"(2,3)": ["none"]}', "--output-nodes", "3",
    )  # fmt: skip
    assert code == 0
    config = Run.load(tmp_path / "x.nc").config
    assert config.operations == ("none", "skip_connect", "sep_conv_3x3")
    assert config.allowed == {"(2,3)": ("none",)} and config.output_nodes == (3,)


@pytest.mark.parametrize(
    "words, message",
    [
        (["search", "--framework", "dart"], "Did you mean 'darts'"),
        (["search", "--allowed", "{"], "allowed='{': input should be a valid dictionary"),
        (["search", "--epochs", "many"], "epochs='many': input should be a valid integer"),
        (["search", "--output-nodes", "2,a"], "output_nodes.1='a': input should be"),
        (["show", "nothing.nc"], "there is no file"),
        (["runs"], "runs: No such file or directory. Give a folder of records."),
    ],
)
def test_a_mistake_is_one_message(run_command, capsys, words, message):
    assert run_command(*words) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_value_is_read_in_one_way():
    """That of Python and of JSON, whatever takes it: --set, --option, --resource and fields."""
    values = {".025": 0.025, "+0.1": 0.1, "10_000": 10_000, "1e-3": 1e-3, "[1, 2]": [1, 2]}
    values |= {"None": None, "none": None, "true": True, "False": False, "(0,2)": "(0,2)"}
    read = parse_settings("--set", [f"x{n}={text}" for n, text in enumerate(values)])
    assert list(read.values()) == list(values.values())
    assert parse_settings("--set", ["norm=none", "lr=None"]) == {"norm": "none", "lr": None}


def test_public_names():
    import nascore

    for name in nascore.__all__:
        assert getattr(nascore, name).__name__ == name
    with pytest.raises(AttributeError, match="serach"):
        _ = nascore.serach


@pytest.mark.slow
def test_sweep_runs_what_is_missing_of_an_experiment(run_command, capsys, tmp_path):
    words = ("sweep", "training_opportunity", "--profile", "smoke", "--seeds", 1)
    words += ("--store", tmp_path / "runs", "--workers", 0)
    assert run_command(*words) == 0
    output = capsys.readouterr()
    assert output.out.strip() == f"2 records in {tmp_path / 'runs'}"
    assert "searches: 100%" in output.err and output.err.count("searches:   0%") == 1
    made = {path: path.stat().st_ino for path in (tmp_path / "runs").iterdir()}
    assert run_command(*words) == 0
    assert {path: path.stat().st_ino for path in (tmp_path / "runs").iterdir()} == made
    assert run_command(*words, "--fresh") == 0
    assert all(path.stat().st_ino != made[path] for path in made)  # written beside the old one


def test_sweep_names_what_it_does_not_know(run_command, capsys):
    assert run_command("sweep", "pictur") == 2
    assert "unknown experiment 'pictur'. Did you mean 'picture'" in capsys.readouterr().err
    assert run_command("sweep", "picture", "--profile", "publish") == 2
    assert "Did you mean 'published'" in capsys.readouterr().err
    assert run_command("sweep", "picture", "--set", "epoch=3") == 2
    assert "unknown config field 'epoch'. Did you mean 'epochs'" in capsys.readouterr().err
    assert run_command("sweep", "picture", "--set", "lr=fast") == 2
    assert "lr='fast': input should be a valid number" in capsys.readouterr().err
    assert run_command("sweep", "picture", "--set", "lr=1", "--set", "lr=2") == 2
    assert "--set lr=1 --set lr=2: give each name once" in capsys.readouterr().err


def test_sweep_of_ones_own_experiment_in_ones_own_folder(run_command, capsys, tmp_path):
    (tmp_path / "one_of_mine.py").write_text(
        "from nascore.evidence import experiment\n"
        "tiny = dict(dataset='synthetic', train_examples=64, augment=False, cells=1, channels=4,\n"
        "    batch_size=32)\n"
        "@experiment({'laptop': tiny}, seeds={'laptop': 1})\n"
        "def mine(base):\n"
        "    return {'one': base}\n",
        encoding="utf-8",
    )
    words = ("sweep", "one_of_mine:mine", "--workers", 0)
    changes = ("epochs=1", "grad_clip=none", "operations=none,skip_connect")
    for change in changes:
        words += ("--set", change)
    assert run_command(*words) == 0
    assert capsys.readouterr().out.strip() == "1 records in runs"
    (path,) = (tmp_path / "runs").iterdir()
    config = Run.load(path).config
    assert (config.epochs, config.grad_clip) == (1, None)
    assert config.operations == ("none", "skip_connect")


def test_runs_lists_records(run_command, capsys, tmp_path):
    """In an empty folder: the records of ./runs."""
    for seed in (0, 1):
        assert run_command(*TINY, "--quiet", "--seed", seed) == 0
    first, second = map(Path, capsys.readouterr().out.split())

    def printed(*words):
        assert run_command("runs", *words) == 0
        return capsys.readouterr().out

    heading, *lines, total = printed().splitlines()
    columns = ["state", "bytes", "framework", "level", "dataset", "seed", "started"]
    assert heading.split() == columns
    assert [line.split()[:2] for line in lines] == [[str(p), "whole"] for p in (first, second)]
    sizes = [path.stat().st_size for path in (first, second)]
    assert total == f"2 files, {sum(sizes):,} bytes"

    first.write_bytes(first.read_bytes()[:-1000])
    _, damaged, whole, _ = printed().splitlines()
    assert damaged.split()[:2] == [str(first), "damaged"] and whole.split() == lines[1].split()
    damaged, whole = json.loads(printed("--json"))
    assert (damaged["path"], damaged["state"]) == (str(first), "damaged")
    assert damaged["framework"] is None and whole["seed"] == 1 and whole["state"] == "whole"
    run = Run.load(second)
    wiring = dict(zip(run.history.edge.values, run.wiring.operations, strict=True))
    assert whole["wiring"] == wiring and damaged["wiring"] is None
    (tmp_path / "empty").mkdir()
    assert printed("--store", "empty") == "0 files, 0 bytes\n"


def test_runs_takes_the_records_of_the_project(run_command, capsys, tmp_path):
    for name in ("_config.yml", "_toc.yml"):
        (tmp_path / name).touch()
    for name in ("notebooks/runs", "book/records"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x.nc").touch()
    assert run_command("runs") == 0
    _, first, second, total = capsys.readouterr().out.splitlines()
    assert first.split()[:2] == ["notebooks/runs/x.nc", "damaged"]
    assert second.split()[:2] == ["book/records/x.nc", "damaged"]
    assert total == "2 files, 0 bytes"


def test_judge_prints_a_verdict_for_each_profile_with_all_records(run_command, capsys):
    records = ROOT / "book" / "records"
    assert run_command("judge", "A2", "--store", records) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("published: A2: holds. The two differ by 1.2e-06 nat at most")


@pytest.mark.parametrize(
    "command, shown",
    [(["judge", "A5", "--store", ROOT / "book/records"], "L ? H"), (["search", "--help"], "?")],
)
def test_a_character_that_a_terminal_lacks_ends_no_command(
    run_command, monkeypatch, command, shown
):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run_command(*command) == 0
    assert shown.encode() in terminal.buffer.getvalue()


OWN_CLAIM = """
import pandas
from nascore.evidence import Evidence, claim, experiment

@experiment({"laptop": {"dataset": "synthetic"}}, seeds={"laptop": 2})
def mine(base):
    return {"one": base}

words = {"effect": "a number", "test": "above 0", "control": "none"}

@claim("X9", says="", short="", experiment="judged_claims:mine", **words)
def needs_records(arms):
    raise AssertionError

@claim("X8", says="", short="", experiment=None, **words)
def positive(arms):
    return Evidence(pandas.Series(1.0, range(10)), "All are 1.", p=0.001)
"""


def test_judge_takes_a_claim_of_ones_own(run_command, capsys, monkeypatch, tmp_path):
    from nascore.evidence import CLAIMS, EXPERIMENTS

    for registry in (CLAIMS, EXPERIMENTS):  # as they were, after the test
        monkeypatch.setattr(registry, "_known", dict(registry))
    (tmp_path / "judged_claims.py").write_text(OWN_CLAIM, encoding="utf-8")
    for name in ("judged_claims:X8", "judged_claims:positive"):
        assert run_command("judge", name) == 0
        assert "X8: supported. All are 1." in capsys.readouterr().out
    assert run_command("judge", "judged_claims:X9") == 2
    error = capsys.readouterr().err
    needs = "needs all records of 'judged_claims:mine' in a profile, and runs has them in none."
    assert error.startswith(f"Error: claim 'judged_claims:X9' {needs}") and error.count("\n") == 1
    assert "sweep judged_claims:mine --profile laptop --store runs" in error
    assert run_command("judge", "P9") == 2
    assert "unknown claim 'P9'. Did you mean 'P3'" in capsys.readouterr().err
