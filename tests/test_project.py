"""What must stay in step across files: dependencies, addresses, notebook templates."""

import re
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def test_environment_is_in_step_with_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    expected = {f"python{project['requires-python']}", "pip"}
    for requirement in project["dependencies"] + project["optional-dependencies"]["book"]:
        name = re.match(r"[\w-]+", requirement)[0]
        expected.add(CONDA_NAMES.get(name, name) + requirement[len(name) :])
    assert {line for line in environment if isinstance(line, str)} == expected


def test_one_address_of_the_repository():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    url = config["repository"]["url"]
    assert project["urls"]["Repository"] == url
    for path in (ROOT / "README.md", *NOTEBOOKS):
        found = re.findall(r"https://github\.com/[\w.-]+/[\w.-]+", path.read_text())
        examples = {"https://github.com/you/fork"}
        assert {address.removesuffix(".git") for address in found} - examples == {url}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_template_is_clean_and_complete(path):
    """No outputs; a title; parameters with types; the Colab cell; a GPU on Colab."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# ")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    tags = [tag for cell in code for tag in cell.metadata.get("tags", [])]
    assert [tag for tag in tags if tag != "hide-input"] == ["remove-cell", "parameters"]
    parameters = next(c for c in code if "parameters" in c.metadata.get("tags", []))
    assert all("# type: " in line for line in parameters.source.splitlines())
    assert notebook.metadata.accelerator == "GPU"
    if "run_experiment(" in path.read_text():
        assert parameters.source.startswith('profile = "laptop"')
