"""The book from the smoke profile: every notebook, the strict build, the pages in a browser."""

import functools
import html
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

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
    "book/notation",
    "book/glossary",
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
EXPLORED = ("notebooks/growing", "notebooks/width_preference", "notebooks/bilevel_failure")
LOOKED_AT = (
    "book/introduction",
    "notebooks/bilevel_failure",
    "notebooks/frameworks",
    "notebooks/scorecard",
)
SCREENSHOTS = ROOT / "_build" / "screenshots"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
IN_THE_MIDDLE = """path => {
    const { x, y } = path.getPointAtLength(0.5 * path.getTotalLength());
    const corner = path.ownerSVGElement.getBoundingClientRect();
    return [corner.x + x, corner.y + y];
}"""

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages that `make book PROFILE=smoke` has built, if nothing has changed since.

    Otherwise they are built here, from a copy of the project: the reader's own book stays. Set
    NASCORE_PAGES to look at pages that are built, of any profile: `pytest -k page`.
    """
    if "NASCORE_PAGES" in os.environ:
        return Path(os.environ["NASCORE_PAGES"]).resolve()
    if is_built():
        return ROOT / "_build" / "html"
    copy = tmp_path_factory.mktemp("project")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, copy)
    ignore = shutil.ignore_patterns("_executed", "runs", ".ipynb_checkpoints", "__pycache__")
    for name in ("book", "notebooks", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    command = [sys.executable, "-m", "book.builder", "build", "--profile", "smoke"]
    result = subprocess.run(command, cwd=copy, capture_output=True, encoding="utf-8")
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
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8")
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
        text = (site / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        said = "no verdict" if claim.experiment else "holds"  # smoke decides nothing
        assert re.search(rf"<strong[^>]*>{claim.id}: {said}\.?</strong>", text), name
        assert f"{claim.id}, the claim." in text
        assert text.count('src="../_images/') >= 2
        assert f"notebooks/{name}.ipynb" in text and "colab.research.google.com" in text


def test_no_table_is_left_as_text(site):
    """A table in Markdown that a cell returns is no table on the page, but a line of bars."""
    for page in site.glob("**/*.html"):
        assert "<p>| " not in page.read_text(encoding="utf-8"), page


def test_pages_load_the_icons_once(site):
    """As a font: in place of the theme's script, which draws the same ones, stands a comment."""
    assert "fontawesome/webfonts" in (site / "_static/styles/pydata-sphinx-theme.css").read_text(
        encoding="utf-8"
    )
    assert (site / "_static" / "scripts" / "fontawesome.js").stat().st_size < 100


def test_the_scorecard_equals_what_the_claims_say_of_the_records(site):
    """A column for each profile that has runs and decides; every cell is computed anew."""
    root = site.parent.parent
    cards = scorecard(RunStore(root / "notebooks" / "runs", root / "book" / "records"))
    assert "published" in cards
    text = (site / "notebooks" / "scorecard.html").read_text(encoding="utf-8")
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
            assert f"n = {verdict.n}: " in cell and cell.strip().startswith("<details>")
            assert cell.strip().endswith(f"<br>{verdict.why}\n</details>")
            assert np.isnan(verdict.control) or f"control {verdict.control:+.2g}<br>" in cell


def test_theorems_stand_in_boxes_and_are_referred_to(site):
    text = (site / "notebooks" / "theorems.html").read_text(encoding="utf-8")
    for label in ("euler", "t1", "t2", "zero-sum", "t3"):
        assert f'<div class="admonition theorem" id="{label}">' in text
        assert f'href="#{label}"' in text or label in ("zero-sum", "t3")


def test_a_link_to_the_repository_leads_within_the_book(site):
    text = (site / "notebooks" / "add_your_own.html").read_text(encoding="utf-8")
    for link in ("../book/glossary.html#framework", "growing.html", "../_downloads/"):
        assert f'href="{link}' in text
    assert not re.search(r'class="reference external" href="[^"]*/blob/', text)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_execution_record_names_every_run(site, name):
    """Those of the profile, or those of the book, where a page shows what is recorded."""
    text = (site / "book" / "execution_record.html").read_text(encoding="utf-8")
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


@pytest.fixture(scope="module")
def home(site):
    """The address of the pages, on a server of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with sync_api.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        yield driver.chromium.launch(executable_path=CHROMIUM, args=arguments)


@pytest.fixture
def open_page(browser):
    """Opens a page in a window of some size; at the end, no page has made an error."""
    problems, contexts = [], []

    def note(message):
        if message.type == "error":
            problems.append(f"{message.text} ({message.location.get('url')})")

    def new(url, width=1280, height=900, on_response=None, **settings):
        contexts.append(
            browser.new_context(viewport={"width": width, "height": height}, **settings)
        )
        page = contexts[-1].new_page()
        page.set_default_timeout(300_000)  # a busy machine is no error
        page.on("console", note)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url))
        if on_response:
            page.on("response", on_response)
        page.goto(url, wait_until="networkidle")
        return page

    yield new
    for context in contexts:
        context.close()
    assert problems == []


@pytest.mark.filterwarnings("ignore")  # the browser driver's own
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read_by_all_and_asks_for_nothing_outside(home, open_page, name, size):
    """At a desk and on a phone, in light and dark: nothing critical or serious for axe-core.

    No request beyond this machine, no picture that is missing, and nothing that makes the page
    itself scroll sideways. Of some pages, pictures are kept to be looked at.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    requested = []
    width, height = SIZES[size]
    page = open_page(
        f"{home}{name}.html",
        width,
        height,
        lambda response: requested.append(response.url),
        reduced_motion="reduce",
    )
    assert [url for url in requested if not url.startswith((home, "data:"))] == []
    assert page.locator("article h1").count() == 1
    assert page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    unset = page.locator(".math:not(:has(mjx-container))").filter(has_text="\\")
    assert unset.count() == 0
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        found = axe.run(page, options={"preload": False}).response["violations"]
        assert [
            (one["id"], theme, [node["target"] for node in one["nodes"]])
            for one in found
            if one["impact"] in ("critical", "serious")
        ] == []
        if name in LOOKED_AT and (size, theme) in (("desktop", "light"), ("phone", "dark")):
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            picture = SCREENSHOTS / f"{Path(name).name}-{size}-{theme}.png"
            area = {"x": 0, "y": 0, "width": width, "height": 3 * height}
            page.screenshot(path=picture, full_page=True, clip=area)
            print(f"What the page looks like is in {picture}")


@pytest.mark.filterwarnings("ignore")  # the browser driver's own
@pytest.mark.parametrize("name", ["book/introduction", *EXPLORED])
def test_a_page_is_soon_there(home, open_page, name):
    """The first page is at most 1.5 MB, a page with an explorer 3 MB, in all requests."""
    bodies = {}
    open_page(
        f"{home}{name}.html",
        on_response=lambda r: bodies.update({r.url: int(r.headers["content-length"])}),
    )
    assert sum(bodies.values()) <= (3_000_000 if name in EXPLORED else 1_500_000), bodies


def test_every_link_within_the_book_leads_somewhere(site):
    """Its file is there, and in it the place that it names."""
    pages = {
        path: path.read_text(encoding="utf-8")
        for path in site.glob("*/*.html")
        if "_static" not in str(path)
    }
    places = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    dead = []
    for path, text in pages.items():
        for link in re.findall(r'<(?:a|img|link|script)\b[^>]*?\b(?:href|src)="([^"]+)"', text):
            address = urlsplit(html.unescape(link))
            if address.scheme or address.netloc:
                continue
            file = (path.parent / unquote(address.path)).resolve() if address.path else path
            at = unquote(address.fragment)
            if not file.exists() or (file in places and at and at not in places[file]):
                dead.append((path.name, link))
    assert dead == []


@pytest.mark.filterwarnings("ignore")  # the browser driver's own
def test_the_runs_are_sorted_and_filtered_in_the_page(home, browser, open_page):
    page = open_page(f"{home}book/execution_record.html", 390, 844)
    table = page.locator("table.sorts")
    seconds = [head.strip("↕ ") for head in table.locator("th").all_inner_texts()].index("seconds")

    def shown(column=seconds):
        cells = table.locator(f"tbody tr:not([hidden]) td:nth-child({column + 1})")
        return cells.all_inner_texts()

    before = [float(text) for text in shown()]
    head = table.locator("th").nth(seconds)
    for order, reverse in (("ascending", False), ("descending", True)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        assert [float(text) for text in shown()] == sorted(before, reverse=reverse)
    first = shown(column=0)[0]
    page.locator("label.filter input").fill(first[:10].upper())
    assert shown(column=0) == [first]
    assert page.locator("label.filter [role=status]").inner_text() == f"1 of {len(before)}"
    assert page.evaluate("document.documentElement.scrollHeight") < 5 * 844
    plain = browser.new_page(java_script_enabled=False)
    plain.goto(page.url)
    assert plain.locator("table.sorts tbody tr").count() == len(before)


@pytest.mark.filterwarnings("ignore")  # the browser driver's own
@pytest.mark.parametrize("name", EXPLORED)
def test_a_wiring_explorer_is_moved_by_keys_and_on_its_time_line(site, browser, open_page, name):
    """From a file, so without a server; with reduced motion nothing plays by itself."""
    url = (site / f"{name}.html").as_uri()
    page = open_page(url, reduced_motion="reduce")
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

    surface = explorer.locator(".surface")
    box = surface.bounding_box()
    surface.click(position={"x": 44, "y": box["height"] / 2})
    assert shown() == (0, *at_the_start)
    box, height = surface.bounding_box(), 20
    page.mouse.move(box["x"] + 44, box["y"] + height)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 44, box["y"] + height, steps=3)
    assert shown() == (last, *at_the_end), "dragged, the cursor follows"
    page.mouse.up()
    page.mouse.move(box["x"] + 44, box["y"] + height)
    assert shown()[0] == last, "let go, it stays"

    path = explorer.locator(".edge .hit").first
    path.scroll_into_view_if_needed()
    page.mouse.move(*path.evaluate(IN_THE_MIDDLE))
    marked = explorer.locator(".curve.marked, .name.marked")
    assert marked.count() == 2 and explorer.locator(".curve.faded").count() == 4
    edge = path.evaluate("path => path.parentNode.textContent")
    assert f"edge {explorer.locator('.name.marked').text_content()}: " in edge
    page.mouse.move(1, 1)
    assert marked.count() == explorer.locator(".faded").count() == 0

    page.emulate_media(reduced_motion="no-preference")
    slider.focus()
    page.keyboard.press("Home")
    explorer.locator("button").click()
    page.wait_for_function("() => +document.querySelector('.nascore_explorer input').value > 0")
    explorer.locator("button").click()
    explorer.locator("select.colour").select_option("cost")
    assert explorer.locator(".legend").inner_text().startswith("earns")

    plain = browser.new_page(java_script_enabled=False)
    plain.goto(url)
    assert "needs JavaScript" in plain.locator(".nascore_explorer").inner_text()
