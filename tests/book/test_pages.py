"""Pages say what the code says; a claim that is added reaches all of them."""

import shutil
from pathlib import Path

import pandas
import pytest

from book.builder import pages
from nascore.evidence import CLAIMS, Evidence, claim

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path):
    """A copy of the pages, the notebooks and the results of the benchmarks."""
    for file in pages.FILES:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    for file in ("_toc.yml", "_config.yml"):
        shutil.copy(ROOT / file, tmp_path)
    for folder in ("notebooks", "benchmarks/results"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def test_the_committed_pages_are_what_the_code_writes():
    """Otherwise run `python -m book.builder pages`."""
    for path, text in pages.pages(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, path.name


def test_a_claim_of_the_book_reaches_every_page(project, monkeypatch):
    """One decorated function and its chapter: README and introduction."""
    monkeypatch.setattr(CLAIMS, "_known", dict(CLAIMS))

    def small(arms):
        return Evidence(pandas.Series(0.5, range(8)), "Seen to be small.", p=0.01)

    small.__module__ = "nascore.evidence.analyses"
    claim(
        "A8",
        says="Costs are small.",
        short="Costs stay small",
        experiment="picture",
        effect="a number",
        test="at most the bar",
        control="none",
        bar=1.0,
        unit="nat",
        tested=True,
        chapter="setting_of_a8",
    )(small)
    (project / "book" / "records").symlink_to(ROOT / "book" / "records")
    shutil.copy(ROOT / "notebooks" / "setting.ipynb", project / "notebooks" / "setting_of_a8.ipynb")
    assert {path.name for path in pages.write_pages(project)} == {
        "README.md",
        "introduction.md",
    }
    texts = {Path(file).name: (project / file).read_text(encoding="utf-8") for file in pages.FILES}
    assert "| A8 Costs stay small | **not supported** | Seen to be small. |" in texts["README.md"]
    assert "| claim | 6 of 8: supported |" in texts["README.md"]  # and identities on their own
    assert "| identity | 4 of 4: holds |" in texts["README.md"]
    row = "| A8 Costs stay small | [The setting](../notebooks/setting_of_a8.ipynb) |"
    assert row in texts["introduction.md"]
    assert pages.write_pages(project) == []


def test_the_first_page_tells_what_was_found(project):
    (project / "book" / "records").symlink_to(ROOT / "book" / "records")
    text = pages.pages(project)[project / "book" / "introduction.md"]
    for said in ("P1, **supported**", "P2, **supported**", "P3, **not supported**"):
        assert f"*We see* ({said}): " in text
    assert "keep 0.1 of 5 edges on average, and no edge at all in 7 of 8 seeds" in text
    assert text.count("*The paper says:*") == text.count("*Why:*") == 3
