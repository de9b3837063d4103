"""The pages in a browser: read by all, at a desk and on a phone, sorted, explored."""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
TOC = yaml.safe_load((ROOT / "_toc.yml").read_bytes())
PAGES = [TOC["root"], *(entry["file"] for part in TOC["parts"] for entry in part["chapters"])]
EXPLORED = ("notebooks/growing", "notebooks/width_preference", "notebooks/bilevel_failure")
LOOKED_AT = (
    "book/introduction",
    "notebooks/bilevel_failure",
    "notebooks/frameworks",
    "notebooks/scorecard",
)
COLOURS = ["color-contrast", "link-in-text-block"]  # what axe-core asks of them
SCREENSHOTS = ROOT / "_build" / "screenshots"
IN_THE_MIDDLE = """path => {
    const { x, y } = path.getPointAtLength(0.5 * path.getTotalLength());
    const corner = path.ownerSVGElement.getBoundingClientRect();
    return [corner.x + x, corner.y + y];
}"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore"),  # the browser driver's own
]


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


class Readable:
    """Every page in a window of some size; a picture of some, in one theme, is kept to be seen."""

    @pytest.mark.parametrize("name", PAGES)
    def test_a_page_can_be_read_by_all_and_asks_for_nothing_outside(self, home, open_page, name):
        """In light and, as to colours, in the dark: nothing critical or serious for axe-core.

        No request beyond this machine, no picture that is missing, and nothing that makes the page
        itself scroll sideways.
        """
        axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
        requested = []
        page = open_page(
            f"{home}{name}.html",
            self.width,
            self.height,
            lambda response: requested.append(response.url),
            reduced_motion="reduce",
        )
        assert [url for url in requested if not url.startswith((home, "data:"))] == []
        assert page.locator("article h1").count() == 1
        missing = "[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
        assert page.evaluate(missing) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= self.width
        unset = page.locator(".math:not(:has(mjx-container))").filter(has_text="\\")
        assert unset.count() == 0
        for theme, rules in (("light", {}), ("dark", {"runOnly": COLOURS})):
            page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
            found = axe.run(page, options={"preload": False, **rules}).response["violations"]
            assert [
                (one["id"], theme, [node["target"] for node in one["nodes"]])
                for one in found
                if one["impact"] in ("critical", "serious")
            ] == []
            if name in LOOKED_AT and theme == self.kept:
                SCREENSHOTS.mkdir(parents=True, exist_ok=True)
                picture = SCREENSHOTS / f"{Path(name).name}-{self.width}-{theme}.png"
                area = {"x": 0, "y": 0, "width": self.width, "height": 3 * self.height}
                page.screenshot(path=picture, full_page=True, clip=area)
                print(f"What the page looks like is in {picture}")


class TestAtADesk(Readable):
    width, height, kept = 1280, 900, "light"


class TestOnAPhone(Readable):
    width, height, kept = 390, 844, "dark"


@pytest.mark.parametrize("name", ["book/introduction", *EXPLORED])
def test_a_page_is_soon_there(home, open_page, name):
    """The first page is at most 1.5 MB, a page with an explorer 3 MB, in all requests."""
    bodies = {}
    open_page(
        f"{home}{name}.html",
        on_response=lambda r: bodies.update({r.url: int(r.headers["content-length"])}),
    )
    assert sum(bodies.values()) <= (3_000_000 if name in EXPLORED else 1_500_000), bodies


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
