"""The book from the smoke profile: every notebook, the strict build, what the pages say."""

import html
import re
import shutil
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from nascore import RunStore
from nascore.evidence.experiments import EXPERIMENTS, configs_of, flat, searches
from nascore.evidence.verdicts import CLAIMS, in_order, verdicts

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_every_chapter_of_a_claim_shows_results(site):
    for claim in CLAIMS.values():
        name = claim.chapter
        text = (site / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        said = "no verdict" if claim.experiment else "holds"  # smoke decides nothing
        assert re.search(rf"<strong[^>]*>{claim.id}: {said}\.?</strong>", text), name
        assert text.count('class="verdict-box"') == 1, name
        assert f"{claim.id}, the claim." in text
        assert text.count('src="../_images/') >= 2
        assert f"notebooks/{name}.ipynb" in text and "colab.research.google.com" in text


def test_a_toggle_says_what_it_hides(site):
    """Parameters, how they are checked, what is used below, or the code of what is below."""
    for page in site.glob("notebooks/*.html"):
        named = re.findall(
            r'<p class="collapsed admonition-title">(.*?)</p>', page.read_text(encoding="utf-8")
        )
        assert named and not [name for name in named if "cell" in name], page
        assert {"Show the parameters", "Show how they are checked"} <= set(named), page


def test_no_table_and_no_formula_is_left_as_text(site):
    """A table in Markdown that a cell returns is no table on the page, but a line of bars."""
    for page in site.glob("**/*.html"):
        text = page.read_text(encoding="utf-8")
        assert "<p>| " not in text, page
        assert not re.search(r"<p>[^<]*\$[^$<]+\$", text), page


def test_a_caption_stands_under_one_figure(site):
    """Not under the table, too, that the same cell returns."""
    for page in site.glob("notebooks/*.html"):
        text = page.read_text(encoding="utf-8")
        caption = r'<figcaption>.*?<span class="caption-text">(.*?)</span>.*?</figcaption>'
        captions = re.findall(caption, text, re.DOTALL)
        assert len(captions) == len(set(captions)) == text.count("<figcaption>"), page


def test_pages_load_the_icons_once(site):
    """As a font: in place of the theme's script, which draws the same ones, stands a comment."""
    assert "fontawesome/webfonts" in (site / "_static/styles/pydata-sphinx-theme.css").read_text(
        encoding="utf-8"
    )
    assert (site / "_static" / "scripts" / "fontawesome.js").stat().st_size < 100


def test_the_scorecard_equals_what_the_claims_say_of_the_records(site, notebook_cells):
    """A column for each profile that has runs and decides; every cell is computed anew."""
    root = site.parent.parent
    store = RunStore(root / "notebooks" / "runs", root / "book" / "records")
    cards = notebook_cells("scorecard", "scorecard-04", store=store)["cards"]
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


def test_every_claim_reads_the_runs_of_the_book(site, tmp_path, notebook_cells):
    """The smoke runs of every experiment go through its claim; nothing else is looked at."""
    runs, store = RunStore(site.parent.parent / "notebooks" / "runs"), RunStore(tmp_path)
    assert list(verdicts("smoke", store)) == ["A7"]
    for config in searches("smoke"):
        shutil.copy(runs.path(config), tmp_path)
    found = verdicts("smoke", store)
    assert list(found) == [claim.id for claim in in_order()]
    assert found["A2"].verdict == "holds" and found["P1"].n == 2
    cards = notebook_cells("scorecard", "scorecard-04", store=store)["cards"]
    assert cards == {}, "smoke decides nothing"


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
