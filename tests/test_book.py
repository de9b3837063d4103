"""The book from the smoke profile: every notebook, the strict build, the pages in a browser."""

import functools
import html
import http.server
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import numpy as np
import pytest

from book.builder.build import book_notebooks
from nascore import RunStore
from nascore.evidence.experiments import EXPERIMENTS, configs_of, flat, searches
from nascore.evidence.verdicts import CLAIMS, in_order, scorecard, verdicts

ROOT = Path(__file__).parent.parent
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
PAGES = (
    "book/introduction",
    "notebooks/setting",
    "notebooks/claims",
    "notebooks/growing",
    "notebooks/width_preference",
    "notebooks/bilevel_failure",
    "notebooks/frameworks",
    "notebooks/cost",
    "notebooks/theorems",
    "notebooks/training",
    "notebooks/add_your_own",
    "notebooks/cost_over_training",
    "notebooks/sum_rule",
    "notebooks/right_and_wrong",
    "notebooks/training_opportunity",
    "notebooks/playground",
    "notebooks/scorecard",
    "book/protocol",
    "book/keeping",
    "book/cluster",
    "notebooks/speed",
    "book/execution_record",
    "book/references",
)


pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages that `make book PROFILE=smoke` has built, if nothing has changed since.

    Otherwise they are built here, from a copy of the project: the reader's own book stays.
    """
    if is_built():
        return ROOT / "_build" / "html"
    copy = tmp_path_factory.mktemp("project")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, copy)
    ignore = shutil.ignore_patterns("_executed", "runs", ".ipynb_checkpoints", "__pycache__")
    for name in ("book", "notebooks", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    command = [sys.executable, "-m", "book.builder", "build", "--profile", "smoke"]
    result = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    assert "The book is built" in result.stdout
    return copy / "_build" / "html"


def is_built():
    """Whether the project's own pages are of profile smoke and newer than all that they show."""
    copies = [ROOT / "book" / "_executed" / path.name for path in book_notebooks(ROOT)]
    index = ROOT / "_build" / "html" / "index.html"
    if not all(path.exists() for path in (*copies, index)):
        return False
    notebooks = [nbformat.read(path, as_version=4) for path in copies]
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    sources = [ROOT / name for name in listed.stdout.splitlines() if not name.startswith("tests/")]
    newest = max((path.stat().st_mtime for path in sources if path.exists()), default=float("inf"))
    oldest = min(path.stat().st_mtime for path in (*copies, index))
    profiles = {n.metadata.papermill.parameters.get("profile", "smoke") for n in notebooks}
    return newest < oldest and profiles == {"smoke"}


def test_every_page_is_there_and_shows_results(site):
    for page in PAGES:
        assert (site / f"{page}.html").exists()
    for claim in CLAIMS.values():
        name = claim.chapter
        text = (site / "notebooks" / f"{name}.html").read_text()
        said = "no verdict" if claim.experiment else "holds"  # smoke decides nothing
        assert re.search(rf"<strong[^>]*>{claim.id}: {said}\.?</strong>", text), name
        assert f"{claim.id}, the claim." in text
        assert text.count('src="../_images/') >= 2
        assert f"notebooks/{name}.ipynb" in text and "colab.research.google.com" in text


def test_no_table_is_left_as_text(site):
    """A table in Markdown that a cell returns is no table on the page, but a line of bars."""
    for page in site.glob("**/*.html"):
        assert "<p>| " not in page.read_text(), page


def test_pages_load_the_icons_once(site):
    """As a font: in place of the theme's script, which draws the same ones, stands a comment."""
    assert "fontawesome/webfonts" in (site / "_static/styles/pydata-sphinx-theme.css").read_text()
    assert (site / "_static" / "scripts" / "fontawesome.js").stat().st_size < 100


def test_the_scorecard_equals_what_the_claims_say_of_the_records(site):
    """A column for each profile that has runs and decides; every cell is computed anew."""
    root = site.parent.parent
    cards = scorecard(RunStore(root / "notebooks" / "runs", root / "book" / "records"))
    assert "published" in cards
    text = (site / "notebooks" / "scorecard.html").read_text()
    (table,) = re.findall(r'<table class="record scorecard">.*?</table>', text, re.DOTALL)
    lines = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    heads = [re.findall(r"<th>(.*?)</th>", line) for line in lines if "<th>" in line]
    assert [head[0] for head in heads] == ["tested claims", "checked identities"]
    for _, *columns in heads:
        assert [column.partition(":")[0] for column in columns] == list(cards)
    shown = {}
    for line in (line for line in lines if "<td>" in line):
        first, *cells = re.findall(r"<td>(.*?)</td>", line, re.DOTALL)
        (claim,) = re.findall(r'<a href="[a-z_]+.html">(\w+) ', first)
        shown[claim] = [html.unescape(cell) for cell in cells]
    assert set(shown) == set(CLAIMS)
    for column, card in enumerate(cards.values()):
        assert set(card) == set(CLAIMS)
        for claim, verdict in card.items():
            cell = shown[claim][column]
            assert f">{verdict.verdict}</strong>" in cell and cell.count("<circle ") == 1
            assert f">n = {verdict.n}</summary>" in cell
            assert cell.endswith(f"<br>{verdict.why}</details>")
            assert np.isnan(verdict.control) or f"control {verdict.control:+.2g}<br>" in cell


def test_theorems_are_set_and_referred_to(site):
    text = (site / "notebooks" / "theorems.html").read_text()
    labels = {"euler": "lemma", "t1": "theorem", "t2": "theorem", "t3": "theorem"}
    for label, kind in (labels | {"zero-sum": "corollary"}).items():
        assert f'<div class="proof {kind} admonition" id="{label}">' in text
    assert "prf:" not in text


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_execution_record_names_every_run(site, name):
    """Those of the profile, or those of the book, where a page shows what is recorded."""
    text = (site / "book" / "execution_record.html").read_text()
    profiles = [p for p in ("smoke", "published") if p in EXPERIMENTS[name].settings]
    needed = [flat(configs_of(name, profile)) for profile in profiles]
    assert any(all(config.hash in text for config in configs) for configs in needed)


def test_every_claim_reads_the_runs_of_the_book(site, tmp_path):
    """The smoke runs of every experiment go through its claim; nothing else is looked at."""
    runs, store = RunStore(site.parent.parent / "notebooks" / "runs"), RunStore(tmp_path)
    assert list(verdicts("smoke", store)) == ["A7"]
    for config in searches("smoke"):
        shutil.copy(runs.path(config), tmp_path)
    found = verdicts("smoke", store)
    assert list(found) == [claim.id for claim in in_order()]
    assert found["A2"].verdict == "holds" and found["P1"].n == 2
    assert scorecard(store) == {}, "smoke decides nothing"


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.filterwarnings("ignore")  # the browser driver's own
def test_pages_make_no_error_and_no_external_request(site):
    """In a real browser: no console error, no request beyond this machine, mathematics set."""
    playwright = pytest.importorskip("playwright.sync_api")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}/"
    problems, outside = [], []
    try:
        with playwright.sync_playwright() as driver:
            arguments = ["--no-sandbox", "--disable-background-networking"]
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
            page = browser.new_page()
            page.set_default_timeout(300_000)  # a busy machine is no error
            page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("requestfailed", lambda request: problems.append(request.url))
            page.on(
                "request",
                lambda r: None if r.url.startswith((home, "data:")) else outside.append(r.url),
            )
            for name in PAGES:
                page.goto(f"{home}{name}.html", wait_until="networkidle")
                assert page.locator("article h1").count() == 1, name
            page.goto(f"{home}notebooks/setting.html", wait_until="networkidle")
            page.wait_for_selector("mjx-container")
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
    assert problems == []
    assert outside == []


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.filterwarnings("ignore")  # the browser driver's own
@pytest.mark.parametrize("name", ["growing", "width_preference", "bilevel_failure"])
def test_a_wiring_explorer_is_moved_by_keys_and_on_its_time_line(site, name):
    """From a file, so without a server; with reduced motion nothing plays by itself."""
    playwright = pytest.importorskip("playwright.sync_api")
    url, problems = (site / "notebooks" / f"{name}.html").as_uri(), []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(reduced_motion="reduce")
        page.set_default_timeout(300_000)
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.goto(url)
        explorer = page.locator(".nascore_explorer")
        slider, wiring = explorer.locator("input"), explorer.locator("svg.cell")

        def shown():
            """The epoch, what a screen reader says of the cell, and where the cursor stands."""
            said = slider.get_attribute("aria-valuetext")
            cursor = explorer.locator(".cursor").get_attribute("d")
            return int(said.split()[1]), wiring.get_attribute("aria-label"), cursor

        last, *at_the_end = shown()
        assert last > 0 and explorer.locator(".edge").count() == 5
        slider.focus()
        page.keyboard.press("Home")
        epoch, *at_the_start = shown()
        assert epoch == 0
        assert all(a != b for a, b in zip(at_the_start, at_the_end, strict=True))
        page.keyboard.press("ArrowRight")
        assert shown()[0] == 1
        page.keyboard.press("Space")  # would play, were motion not unwelcome
        assert explorer.locator("button").is_hidden() and shown()[0] == 1
        page.keyboard.press("End")
        assert shown() == (last, *at_the_end)

        box = explorer.locator(".surface").bounding_box()
        explorer.locator(".surface").click(position={"x": 44, "y": box["height"] / 2})
        assert shown() == (0, *at_the_start)
        page.emulate_media(reduced_motion="no-preference")
        explorer.locator("button").click()
        page.wait_for_function("() => +document.querySelector('.nascore_explorer input').value > 0")
        explorer.locator("button").click()
        explorer.locator("select.colour").select_option("cost")
        assert explorer.locator(".legend").inner_text().startswith("earns")

        page = browser.new_page(java_script_enabled=False)
        page.goto(url)
        assert "needs JavaScript" in page.locator(".nascore_explorer").inner_text()
        browser.close()
    assert problems == []
