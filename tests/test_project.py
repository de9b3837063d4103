"""What must stay in step across files: dependencies, addresses, notebook templates."""

import ast
import re
import shutil
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
import yaml
from pybtex.database import parse_file

from nascore import __version__

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FACES = {"nascore", "nascore.errors", "nascore.folders"} | {
    f"nascore.{name}" for name in ("engine", "frameworks", "runs", "theory", "evidence", "book")
}
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def test_environment_is_in_step_with_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_bytes())["dependencies"]
    expected = {f"python{project['requires-python']}", "pip"}
    for requirement in project["dependencies"] + project["optional-dependencies"]["book"]:
        name = re.match(r"[\w-]+", requirement)[0]
        expected.add(CONDA_NAMES.get(name, name) + requirement[len(name) :])
    assert {line for line in environment if isinstance(line, str)} == expected


def test_one_address_of_the_repository():
    config = yaml.safe_load((ROOT / "_config.yml").read_bytes())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    url = config["repository"]["url"]
    assert project["urls"]["Repository"] == url
    for path in (ROOT / "README.md", ROOT / "CITATION.cff", *NOTEBOOKS):
        found = re.findall(r"https://github\.com/[\w.-]+/[\w.-]+", path.read_text(encoding="utf-8"))
        examples = {"https://github.com/you/fork"}
        assert {address.removesuffix(".git") for address in found} - examples == {url}


def test_one_version_and_licence():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_bytes())
    changes = re.findall(
        r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert citation["version"] == changes[0] == __version__
    assert citation["license"] == project["license"] == "MIT"
    assert citation["preferred-citation"]["url"] == "https://arxiv.org/abs/2009.01272"


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_targets_of_the_makefile(path):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    steps = [
        step for job in yaml.safe_load(path.read_bytes())["jobs"].values() for step in job["steps"]
    ]
    made = [step["run"].split()[1] for step in steps if step.get("run", "").startswith("make ")]
    assert made and set(made) <= set(targets)


@pytest.mark.skipif(not all(map(shutil.which, ("bash", "git", "sed"))), reason="needs them")
def test_colab_opens_the_notebooks_that_the_pages_offer(tmp_path):
    """The step that publishes them, twice: on a branch that the launch buttons then name."""
    jobs = yaml.safe_load(
        (ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8")
    )["jobs"]
    (step,) = (step["run"] for step in jobs["publish"]["steps"] if step.get("name") == "pin")
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@y.z")

    def run(*words, folder=tmp_path):
        done = subprocess.run(words, cwd=folder, check=True, capture_output=True)
        return done.stdout.decode()

    run("git", "init", "--quiet", "--bare", "--initial-branch=main", "origin")
    for commit in ("1", "2"):
        here = tmp_path / commit
        run("git", "clone", "--quiet", "origin", commit)
        template, html = here / "notebooks" / "a.ipynb", here / "_build" / "html"
        page, offered = html / "notebooks" / "a.html", html / "_sources" / "notebooks" / "a.ipynb"
        for path in (template, page, offered):
            path.parent.mkdir(parents=True, exist_ok=True)
        (here / ".gitignore").write_text("_build", encoding="utf-8")
        template.write_text(f"template {commit}", encoding="utf-8")
        run(*git, "add", ".", folder=here)
        run(*git, "commit", "--quiet", "--message", commit, folder=here)
        run(*git, "push", "--quiet", "origin", "HEAD:main", folder=here)
        page.write_text('<a href="https://x/blob/main/notebooks/a.ipynb">', encoding="utf-8")
        offered.write_text(f"pinned {commit}", encoding="utf-8")
        run("bash", "-e", "-c", step, folder=here)
        published = run("git", "show", "published:notebooks/a.ipynb", folder=tmp_path / "origin")
        assert published == f"pinned {commit}"
        assert (
            page.read_text(encoding="utf-8")
            == '<a href="https://x/blob/published/notebooks/a.ipynb">'
        )


def test_the_oldest_python_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    jobs = yaml.safe_load(
        (ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8")
    )["jobs"]
    assert f">={jobs['test']['strategy']['matrix']['python'][0]}" == project["requires-python"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_template_is_clean_and_complete(path):
    """No outputs; a title; the Colab cell; parameters and their check; a GPU on Colab."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# ")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    tags = [tag for cell in code for tag in cell.metadata.get("tags", [])]
    tags = [tag for tag in tags if tag not in ("hide-input", "remove-output")]
    assert tags == ["remove-cell", "parameters", "configs"]
    parameters = next(c for c in code if "parameters" in c.metadata.get("tags", []))
    assert notebook.metadata.accelerator == "GPU"
    assert notebook.cells.index(parameters) == notebook.cells.index(configs_cell(notebook)) - 1
    if "run_experiment(" in path.read_text(encoding="utf-8"):
        assert parameters.source.startswith('profile = "laptop"')


@pytest.mark.parametrize("folder", ["nascore", "book", "benchmarks", "soak", "tests"])
def test_text_is_utf_8_in_every_locale(folder):
    """Beyond `open`, which the linter sees."""
    for path in (ROOT / folder).rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(call, ast.Call):
                given = {keyword.arg for keyword in call.keywords}
                name = getattr(call.func, "attr", None)
                if name in ("read_text", "write_text") or (
                    name in ("run", "Popen") and "text" in given
                ):
                    assert "encoding" in given, f"{path.name}, line {call.lineno}"


def configs_cell(notebook):
    return next(c for c in notebook.cells if "configs" in c.metadata.get("tags", []))


def names_of_the_package(source):
    """What a cell imports of the package: pairs of module and name, the name None for `import`."""
    plain = re.sub(r"^( *)[%!].*", r"\1pass", source, flags=re.MULTILINE)  # no magic of Jupyter
    for node in ast.walk(ast.parse(plain)):
        if isinstance(node, ast.Import):
            found = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        yield from (pair for pair in found if pair[0].split(".")[0] == "nascore")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_imports_public_names(path):
    """From the package or one of its folders, never from a module deeper down."""
    cells = nbformat.read(path, as_version=4).cells
    pairs = [p for c in cells if c.cell_type == "code" for p in names_of_the_package(c.source)]
    assert pairs
    for module, name in pairs:
        assert module in FACES, f"{path.stem}: import {name} from a folder, not from {module}"
        face = import_module(module)
        public = getattr(face, "__all__", None) or vars(face)
        assert name is None or name in public, f"{path.stem}: {module} has no public name {name}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_begins_with_what_it_says(path):
    """A heading and a paragraph before any code; plumbing is folded; code writes no role."""
    cells = nbformat.read(path, as_version=4).cells
    heading, _, paragraph = cells[0].source.partition("\n\n")
    assert heading.startswith("# ") and len(paragraph.split()) > 15
    for cell in cells:
        if cell.cell_type == "code":
            imports = "plots.set_style()" in cell.source or "from nascore.book" in cell.source
            provenance = cell.source.startswith("RunTable(") or "parameters" in cell.metadata.get(
                "tags", []
            )
            if imports or provenance:
                assert "hide-input" in cell.metadata.get("tags", []), cell.source.splitlines()[0]
            assert not re.search(r"\{(glue|cite|term|ref)", cell.source)
    how = [n for n, cell in enumerate(cells) if cell.source.startswith("*To run this page")]
    boxes = [n for n, cell in enumerate(cells) if "VerdictBox(" in cell.source]
    assert not how or boxes[0] < how[0]
    assert len(boxes) <= 1, "one box of verdicts on a page"


def prose(path):
    """What a notebook says, its code left out."""
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_reads_the_same_in_the_book_and_on_colab(path):
    """No role and no directive, which only the book sets; each link says where it leads in full."""
    text = prose(path)
    assert not re.search(r"\{[\w:-]+\}`|^:::|^```\{", text, re.MULTILINE)
    repository = yaml.safe_load((ROOT / "_config.yml").read_bytes())["repository"]
    here = f"{repository['url']}/blob/{repository['branch']}/"
    for link in re.findall(r"\]\(([^)]*)\)", text):
        assert link.startswith("https://")
        if link.startswith(here):
            assert (ROOT / link.removeprefix(here).partition("#")[0]).exists(), link
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(re.findall(r'\bid="([^"]+)"', text))


def test_citations_are_those_of_the_references():
    """Name, year and address in notebooks, a role in the prose; and no reference for nothing."""
    hosts = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}
    known, cited = {}, set()
    for key, entry in parse_file(ROOT / "book" / "references.bib").entries.items():
        names = [" ".join(person.last_names) for person in entry.persons["author"]]
        who = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        kind, _, number = entry.fields.get("note", "").partition(":")
        known[f"{hosts.get(kind)}{number}"] = key, f"{who}, {entry.fields['year']}"
    for path in NOTEBOOKS:
        for words, link in re.findall(r"\[([^]]+)\]\((https://(?!github)[^)]+)\)", prose(path)):
            key, expected = known[link]
            assert words.replace(" (", ", ").rstrip(")") == expected, path.stem
            cited.add(key)
    for path in (ROOT / "book").glob("*.md"):
        cited |= set(re.findall(r"\{cite:[pt]\}`(\w+)`", path.read_text(encoding="utf-8")))
    assert cited == {key for key, _ in known.values()}
