"""What pages take from the code: what was found, and the tables of claims.

A block of a page lies between two comments, ``pages: name`` and ``end``.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import nbformat
import numpy as np
import yaml

from nascore.evidence.claims import Claim
from nascore.evidence.experiments import ONE, TWO, load_experiment
from nascore.evidence.growth import kept_edges
from nascore.evidence.verdicts import Verdict, in_order, verdicts
from nascore.sweeps.store import RunStore

FILES = ("README.md", "book/introduction.md")
"""The pages that have such blocks."""

COLAB = "https://colab.research.google.com"

T4 = 3
"""How many times as long a step is taken to last on a free T4 of Colab as on the H100 measured."""

BLOCK = re.compile(r"(<!-- pages: (\w+).*\n)[\s\S]*?(?=\n<!-- end)")


def write_pages(root: Path) -> list[Path]:
    """Writes every block anew. Returns the files that changed."""
    texts = {path: text.encode() for path, text in pages(root).items()}
    changed = [path for path, text in texts.items() if path.read_bytes() != text]
    for path in changed:
        path.write_bytes(texts[path])
    return changed


def pages(root: Path) -> dict[Path, str]:
    """The text of each page that has blocks, as the code and the book's records have it now."""
    store = RunStore(root / "book" / "records")
    verdict = verdicts("published", store)
    blocks = {
        "glance": _glance(verdict),
        "found": _found(root, verdict),
        "in_darts": _in_darts(store),
        "verdicts": _verdicts(verdict),
        "analyses": _analyses(root),
        "speeds": _speeds(root),
        "colab": _colab(root),
        "chapters": _chapters(root),
    }
    texts = {root / file: (root / file).read_text(encoding="utf-8") for file in FILES}
    return {path: BLOCK.sub(lambda m: m[1] + blocks[m[2]], t) for path, t in texts.items()}


def _chapters(root: Path) -> str:
    """The notebooks in the order of the book, each with a link that opens it on Colab."""
    toc = yaml.safe_load((root / "_toc.yml").read_bytes())
    repository = yaml.safe_load((root / "_config.yml").read_bytes())["repository"]
    on_github = repository["url"].removeprefix("https://github.com/")
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    rows = []
    for file in files:
        if file.startswith("notebooks/"):
            link = f"{COLAB}/github/{on_github}/blob/{repository['branch']}/{file}.ipynb"
            title = _title(root, Path(file).name)
            rows.append([f"[{title}]({file}.ipynb)", f"[open on Colab]({link})"])
    return _table(["chapter", "without installing"], rows)


def _speeds(root: Path) -> str:
    """What a step costs, in a sentence, from the results of the benchmarks."""
    results = json.loads((root / "benchmarks" / "results" / "cpu.json").read_bytes())
    rows = results["discrete"]["rows"] + results["dense"]["rows"]
    ratio = {row["step"]: row["ratio"] for row in rows}
    memory = results["memory"]["ratio"]
    return (
        "On one core, at the authors' shape (3x32x32 images, batch 96, 8 cells, C = 16), a DSNAS "
        f"step takes {ratio['DSNAS']:.2f} times a plain network with the sampled operations, and a "
        f"DARTS step is {ratio['DARTS, textbook']:.1f} times as fast as one written down edge by "
        f"edge, in {memory['DARTS']:.2f} of the memory ({memory['DARTS, recompute']:.2f} with "
        "`recompute`)."
    )


def _colab(root: Path) -> str:
    """What the time of the profile `colab` is estimated from."""
    case = json.loads((root / "benchmarks" / "results" / "h100.json").read_bytes())["steps"]
    seconds = {row["step"]: row["seconds"] for row in case["rows"]}
    one = 1000 * seconds["DSNAS, a search in one cell"]
    eight = 1000 * seconds["DSNAS, a search in eight cells"]
    bi = seconds["DSNAS, bi-level"] / seconds["DSNAS"]
    return (
        "The ten minutes of `colab` are an estimate, for no T4 was at hand. On an H100 a step of "
        f"DSNAS took {one:.1f} ms in one cell, {eight:.0f} ms in eight, and {bi:.1f} times as long "
        f"on two levels (torch {case['made']['torch']}, commit {case['made']['commit'][:7]}). Such "
        "small networks wait for the host, and Colab's is "
        f"taken to be {T4} times as slow. That was one search at a time, without the deterministic "
        "kernels that are the default on a GPU now: these take longer, two searches at once less."
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _of_book(letters: str) -> list[Claim]:
    """The book's claims by letter: the paper's phenomena (P), ours (O), its analyses (A)."""
    return [c for c in in_order() if c.family == "book" and c.id[0] in letters]


def _title(root: Path, chapter: str) -> str:
    """The heading of a chapter, which for a phenomenon is what was found."""
    notebook = nbformat.read(root / "notebooks" / f"{chapter}.ipynb", as_version=4)
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


def _glance(verdict: Mapping[str, Verdict]) -> str:
    """The phenomena and their verdicts, one line each, to be read in ten seconds."""
    rows = [
        [f"[{claim.short}](../notebooks/{claim.chapter}.ipynb)", f"**{verdict[claim.id].verdict}**"]
        for claim in _of_book("P")
    ]
    return _table(["the paper's claim, and its chapter", "what we found"], rows)


def _found(root: Path, verdict: Mapping[str, Verdict]) -> str:
    """The phenomena: what the paper says, what the book's records show, and why."""
    return "\n\n".join(
        f"**[{_title(root, claim.chapter)}](../notebooks/{claim.chapter}.ipynb)**\\\n"
        f"*The paper says:* {claim.says}\\\n"
        f"*We see* ({claim.id}, **{verdict[claim.id].verdict}**): {verdict[claim.id].why}\\\n"
        f"*Why:* {claim.because}"
        for claim in _of_book("P")
    )


def _in_darts(store: RunStore) -> str:
    """P3 in DARTS, in a sentence."""
    arms = load_experiment("picture_in_darts", "published", store)
    one, two = (np.array([kept_edges(run)[-1] for run in arms[arm]]) for arm in (ONE, TWO))
    edges = len(arms[TWO][0].config.space.edges)
    return (
        f"In DARTS, where the paper saw the failure, two levels keep {two.mean():.1f} of {edges} "
        f"edges on average, and no edge at all in {(two == 0).sum()} of {len(two)} seeds; one "
        f"level keeps {one.mean():.1f}."
    )


def _verdicts(verdict: Mapping[str, Verdict]) -> str:
    """What the book's records say of each claim, in a line; tests and checks apart."""
    parts = []
    for tested, kind, good in ((True, "claim", "supported"), (False, "identity", "holds")):
        some = [verdict[claim.id] for claim in _of_book("POA") if claim.tested == tested]
        rows = [[f"{v.claim.id} {v.claim.short}", f"**{v.verdict}**", v.why] for v in some]
        count_good = f"{sum(v.verdict == good for v in some)} of {len(some)}: {good}"
        parts.append(_table([kind, count_good, "what we measured"], rows))
    return "\n\n".join(parts)


def _analyses(root: Path) -> str:
    """The analyses, and the chapters that show them."""
    rows = []
    for claim in _of_book("A"):
        title = _title(root, claim.chapter).partition(":")[0]
        rows.append([f"{claim.id} {claim.short}", f"[{title}](../notebooks/{claim.chapter}.ipynb)"])
    return _table(["claim", "chapter"], rows)
