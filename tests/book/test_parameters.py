"""The parameters of the pages: what may be given, and what a page shows. No kernel starts here."""

import re
from ast import literal_eval
from contextlib import chdir
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from book.builder.build import book_notebooks
from book.builder.parameters import check_parameters, parameter_names
from nascore import SearchConfig
from nascore.book import Parameters
from nascore.errors import ConfigError
from nascore.evidence import ONE
from nascore.evidence.profiles import PROFILES

ROOT = Path(__file__).parents[2]
NAN, INFINITE = float("nan"), float("inf")

BAD = {
    "growing": {
        "profile": ["labtop", None],
        "workers": [-1, True],
        "seeds": [0, 21, "many"],
        "framework": ["dart", 7, "my_module:Nothing", "nowhere:X"],
        "epochs": [0, 2.5],
        "lr": [-0.1, NAN, INFINITE, 0.0005],
        "arch_lr": ["0.1"],
        "nodes": [9],
        "store": ["", 5],
        "learning_rate": [0.1],
    },
    "width_preference": {"nodes": [100_000], "label_noise": [0.2]},
    "bilevel_failure": {"lr": [-1], "norm": ["batch"]},
    "right_and_wrong": {"seeds": [10**12]},
    "cost_over_training": {"norm": ["batchnorm", "my_module:stripes"]},
    "training_opportunity": {"norm": ["nothing:Norm"]},
    "sum_rule": {"framework": ["darts "]},
    "theorems": {"seed": [2**63, None], "seeds": [0]},
    "add_your_own": {"epochs": [0.5]},
    "setting": {"framework": [None], "seed": [-1]},
    "claims": {"draws": [10**12], "repetitions": [0]},
    "cost": {"output": [NAN], "right": [0.05, "most"]},
    "frameworks": {"edge": ["(0,1)"], "draws": [1]},
    "training": {"draws": [0], "start": [-1], "strength": [0.01]},
    "elsewhere": {"store": [5, None], "seeds": [3]},
    "scorecard": {"store": [5], "profile": ["smoke"]},
    "playground": {"level": ["two"], "dataset": ["mnist"], "operations": ["none", 7]},
    "speed": {"device": ["gpu"], "results": ["nowhere"]},
}
CASES = [
    (notebook, name, value)
    for notebook, parameters in BAD.items()
    for name, values in parameters.items()
    for value in values
]
GOOD = {
    "growing": {
        "profile": "published",
        "seeds": 20,
        "framework": "my_module:DARTSMinus",
        "epochs": 1,
        "lr": 1,
        "arch_lr": 1e-4,
        "nodes": 4,
        "store": "runs/of/mine",
        "workers": 0,
    },
    "width_preference": {"workers": None, "lr": None, "framework": None},
    "bilevel_failure": {"profile": "paper", "seeds": None, "nodes": 1, "lr": 0.5},
    "right_and_wrong": {"profile": "smoke", "nodes": 2, "framework": "snas"},
    "cost_over_training": {"norm": "none", "nodes": 2},
    "training_opportunity": {"norm": "my_module:RMSNorm"},
    "add_your_own": {"profile": "published", "epochs": 3, "arch_lr": 0.5},
    "setting": {"framework": "gdas", "seed": 2**63 - 1},
    "cost": {"output": -3, "right": 1},
    "frameworks": {"edge": "(2,3)", "draws": 2},
    "playground": {
        "level": "bi",
        "operations": ["none", "skip_connect"],
        "dataset": "fashion-mnist",
    },
    "training": {"start": 0.1, "strength": 0.5, "draws": 2},
}


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch):
    monkeypatch.setattr("papermill.execute_notebook", lambda *a, **k: pytest.fail("a kernel"))
    monkeypatch.setattr("nascore.runs.loop.search", lambda *a, **k: pytest.fail("a search"))


@pytest.mark.parametrize("name, parameter, value", CASES, ids=lambda part: repr(part)[:30])
def test_a_bad_value_is_one_line_with_notebook_parameter_and_value(name, parameter, value):
    with pytest.raises(ConfigError) as error:
        check_parameters(ROOT / "notebooks" / f"{name}.ipynb", {parameter: value})
    message = str(error.value)
    assert message.startswith(f"{name}.ipynb") and "\n" not in message and len(message) < 500
    assert parameter in message or f"{value!r}" in message
    assert repr(value)[:70] in message or "unknown parameter" in message


@pytest.mark.parametrize("name", GOOD)
def test_good_values_pass_and_leave_nothing_behind(name):
    check_parameters(ROOT / "notebooks" / f"{name}.ipynb", GOOD[name])
    assert not (ROOT / "notebooks" / "runs" / "of").exists()


@pytest.mark.parametrize("profile", PROFILES)
def test_every_notebook_passes_as_it_is(profile):
    for notebook in book_notebooks(ROOT):
        given = {"profile": profile} if "profile" in parameter_names(notebook) else {}
        check_parameters(notebook, given)


@pytest.mark.parametrize("notebook", book_notebooks(ROOT), ids=lambda path: path.stem)
def test_a_page_checks_all_of_its_parameters_and_names_what_it_loads(notebook):
    """So that a wrong one is found in Jupyter, too, and a change that does not reach is told."""
    cells = [c for c in nbformat.read(notebook, as_version=4).cells if c.cell_type == "code"]
    values = {"display": lambda _: None}
    for tag in ("parameters", "configs"):
        (cell,) = (c for c in cells if tag in c.metadata.get("tags", []))
        with chdir(notebook.parent):
            exec(cell.source, values)
    page = values["page"]
    loaded = re.findall(r'recorded\("(\w+)"', "\n".join(cell.source for cell in cells))
    assert page.model_fields_set - {"published"} == set(parameter_names(notebook))
    assert set(page.published) == set(loaded)
    assert cell.source.splitlines()[-1] == "page"


@pytest.mark.parametrize("notebook", book_notebooks(ROOT), ids=lambda path: path.stem)
def test_what_a_page_proposes_to_change_can_be_changed(notebook):
    """Its parameters take the value, its code has the name, and it has the sections it names."""
    cells = nbformat.read(notebook, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    _, _, ideas = prose.partition("## Change this and rerun")
    for name, value in re.findall(r"`(\w+) ?= ?([^`]+)`", ideas):
        if name in parameter_names(notebook):
            check_parameters(notebook, {name: literal_eval(value)})
        else:
            assert re.search(rf"\b{name} ?= ?", code), name
    for section in re.findall(r"[Ii]n \*([A-Z][^*]+)\*", ideas):
        assert f"# {section}\n" in prose.replace("$", ""), section


PARAMETERS = """\
profile = "smoke"  # a profile
seeds = None
lr = 0.5
workers = 1"""
CONFIGS = """\
from nascore.book import Parameters
page = Parameters(profile=profile, seeds=seeds, lr=lr, workers=workers)
"""


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook with a parameters cell and a configs cell."""

    def write(parameters=PARAMETERS, configs=CONFIGS):
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        cells = [
            new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            new_code_cell(configs, metadata={"tags": ["configs"]}),
            new_code_cell("raise SystemExit"),
        ]
        path = tmp_path / "page.ipynb"
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
        return path

    return write


@pytest.mark.parametrize(
    "given, message",
    [
        ({"profil": "smoke"}, "unknown parameter 'profil'. Did you mean 'profile'?"),
        ({"profile": "laptp"}, "unknown profile 'laptp'. Did you mean 'laptop'? Allowed: colab"),
        ({"profile": 3}, "profile=3: input should be 'smoke', 'laptop'"),
        ({"seeds": "three"}, "seeds='three': input should be a valid integer"),
        ({"seeds": 0}, "seeds=0: input should be greater than or equal to 1."),
        ({"seeds": 100}, "seeds=100: input should be less than or equal to 20."),
        ({"workers": True}, "workers=True: input should be a valid integer."),
        ({"lr": "x" * 300}, f"lr='{'x' * 99}...{'x' * 99}': input should be a valid number"),
        ({"lr": -1, "seeds": 0}, "seeds=0: input should be greater than or equal to 1. lr=-1: inp"),
    ],
)
def test_messages(notebook, given, message):
    with pytest.raises(ConfigError) as error:
        check_parameters(notebook(), given)
    assert str(error.value).startswith(f"page.ipynb: {message}")


def test_right_parameters_pass(notebook):
    check_parameters(notebook(), {"profile": "laptop", "seeds": None, "lr": 1, "workers": 0})
    check_parameters(notebook(), {"seeds": 3, "lr": 0.1})


def test_the_configs_cell_runs_with_what_is_given_in_the_notebooks_folder(notebook, tmp_path):
    (tmp_path / "there").touch()
    path = notebook(
        configs="import os\nassert os.path.exists('there') and seeds in (None, 3), seeds"
    )
    check_parameters(path, {"seeds": 3})
    before = Path.cwd()
    with pytest.raises(ConfigError, match="page.ipynb, cell 'configs': AssertionError: 4. With s"):
        check_parameters(path, {"seeds": 4})
    assert Path.cwd() == before


def test_what_a_reader_changed_in_the_parameters_is_checked_too(notebook):
    changed = PARAMETERS.replace("0.5", "-1.0")
    with pytest.raises(ConfigError, match="lr=-1.0: input should be greater than 0"):
        check_parameters(notebook(changed), {})
    with pytest.raises(ConfigError, match="page.ipynb, cell 'parameters': SyntaxError"):
        check_parameters(notebook("lr = ="), {})


@pytest.mark.parametrize("text", ["", "{}", "\udcff"])
def test_a_damaged_notebook_is_one_line(tmp_path, text):
    path = tmp_path / "page.ipynb"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match="page.ipynb is no whole notebook") as error:
        check_parameters(path, {})
    assert "\n" not in str(error.value)


def test_a_page_shows_what_its_parameters_come_to():
    loaded = ("tried_first",)
    page = Parameters(profile="published", seeds=None, lr=None, epochs=7, published=loaded)
    page.configs("picture", arms=[ONE])
    page.configs("path_cost", arms=["without"])
    shown = {row[0]: row[1:] for row in page.table().to_numpy().tolist()}
    lr = str(SearchConfig().lr)
    assert shown["lr"] == ["0.3, 0.05", "1 / step", "> 0", lr, "learning rate of θ"]
    assert shown["epochs"][0] == "7" and shown["seeds"][0] == "16, 3"
    assert shown["seeds"][2] == "≥ 1, ≤ 20"
    html = page._repr_html_()
    assert "every search of this page: picture (16 searches); path_cost (3 searches)." in html
    assert "Loaded as published, whatever the parameters: tried_first." in html


def test_a_change_reaches_every_search_of_a_page():
    page = Parameters(profile="laptop", epochs=7, seeds=1, nodes=None)
    arms = page.configs("picture", arms=[ONE])
    assert {config.epochs for config in arms[ONE]} == {7} and page.changes == {"epochs": 7}
    assert {c.epochs for runs in page.configs("path_cost").values() for c in runs} == {7}
