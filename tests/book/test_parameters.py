"""What may be given for the parameters of a notebook. No kernel starts here."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from book.builder.build import book_notebooks
from book.builder.parameters import check_parameters, parameter_types
from nascore.errors import ConfigError

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
    "elsewhere": {"store": [5], "seeds": [3]},
    "scorecard": {"store": [5], "profile": ["smoke"]},
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
    "bilevel_failure": {"profile": "paper", "seeds": None, "nodes": 1, "lr": 0.5},
    "right_and_wrong": {"profile": "smoke", "nodes": 2, "framework": "snas"},
    "cost_over_training": {"norm": "none", "nodes": 2},
    "training_opportunity": {"norm": "my_module:RMSNorm"},
    "add_your_own": {"profile": "published", "epochs": 3, "arch_lr": 0.5},
    "setting": {"framework": "gdas", "seed": 2**63 - 1},
    "cost": {"output": -3, "right": 1},
    "frameworks": {"edge": "(2,3)", "draws": 2},
    "training": {"start": 0.1, "strength": 0.5, "draws": 1},
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


@pytest.mark.parametrize("profile", ["smoke", "laptop", "published", "paper"])
def test_every_notebook_passes_as_it_is(profile):
    for notebook in book_notebooks(ROOT):
        given = {"profile": profile} if "profile" in parameter_types(notebook) else {}
        check_parameters(notebook, given)


def test_papermill_shows_types_and_what_they_are_for():
    import papermill

    shown = papermill.inspect_notebook(str(ROOT / "notebooks" / "growing.ipynb"))
    assert shown["seeds"]["inferred_type_name"] == "Int(1,20)|None"
    assert shown["seeds"]["help"] == "seeds in each arm" and shown["seeds"]["default"] == "None"
    assert shown["profile"]["help"] == "smoke, laptop, published or paper"


PARAMETERS = """\
profile = "smoke"  # type: Profile  a profile
seeds = None  # type: PositiveInt|None
rate = 0.5  # type: float
loud = False  # type: bool"""


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook with a parameters cell and a configs cell."""

    def write(parameters=PARAMETERS, configs=""):
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
        ({"profile": 3}, "profile=3 is no Profile: input should be 'smoke', 'laptop'"),
        (
            {"seeds": "three"},
            "seeds='three' is no PositiveInt|None: input should be a valid integer",
        ),
        ({"seeds": 0}, "seeds=0 is no PositiveInt|None: input should be greater than 0."),
        ({"loud": 1}, "loud=1 is no bool: input should be a valid boolean."),
        ({"rate": "x" * 300}, f"rate='{'x' * 99}...{'x' * 99}' is no float: input should be a"),
    ],
)
def test_messages(notebook, given, message):
    with pytest.raises(ConfigError) as error:
        check_parameters(notebook(), given)
    assert str(error.value).startswith(f"page.ipynb: {message}")


def test_right_parameters_pass(notebook):
    check_parameters(notebook(), {"profile": "laptop", "seeds": None, "rate": 1, "loud": True})
    check_parameters(notebook(), {"seeds": 3, "rate": 0.1})


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
    with pytest.raises(
        ConfigError, match="rate=-1.0 is no PositiveFloat: input should be greater than 0"
    ):
        check_parameters(notebook("rate = -1.0  # type: PositiveFloat"), {})
    with pytest.raises(ConfigError, match="page.ipynb, cell 'parameters': SyntaxError"):
        check_parameters(notebook("rate = =  # type: float"), {})
    with pytest.raises(
        ConfigError, match="rate=1 is no Decimal: this type is not made of the words int, float"
    ):
        check_parameters(notebook("rate = 1  # type: Decimal"), {})


@pytest.mark.parametrize("text", ["", "{}", "\udcff"])
def test_a_damaged_notebook_is_one_line(tmp_path, text):
    path = tmp_path / "page.ipynb"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match="page.ipynb is no whole notebook") as error:
        check_parameters(path, {})
    assert "\n" not in str(error.value)
