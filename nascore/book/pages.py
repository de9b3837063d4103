"""What pages take from the code: the tables of claims and settings, and the claims' chapters.

A block of a page lies between two marks, ``pages: name`` and ``end``, each a comment of its own.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import count
from pathlib import Path

import nbformat
import numpy as np

from nascore.book import plots
from nascore.errors import ConfigError, unknown
from nascore.evidence.claims import Claim
from nascore.evidence.experiments import ONE, TWO, configs_of, load_experiment
from nascore.evidence.growth import kept_edges
from nascore.evidence.significance import SIGNIFICANCE, bonferroni
from nascore.evidence.verdicts import Verdict, count_tested, in_order, verdicts
from nascore.runs.config import SearchConfig
from nascore.sweeps.store import RunStore

FILES = ("README.md", "_toc.yml", "book/introduction.md", "book/protocol.md")
"""The pages that have such blocks."""


def write_pages(root: Path) -> list[Path]:
    """Writes every block anew. Returns the files that changed."""
    changed = []
    for path, text in pages(root).items():
        if path.read_text() != text:
            path.write_text(text)
            changed.append(path)
    return changed


def pages(root: Path) -> dict[Path, str]:
    """The text of each page that has blocks, as the code has it now."""
    verdict = cache(partial(verdicts, "published", _recorded(root)))
    blocks = {
        "found": lambda text: _found(root, verdict()),
        "in_darts": lambda text: _in_darts(root),
        "verdicts": lambda text: _verdicts(verdict()),
        "settings": lambda text: _settings(),
        "analyses": lambda text: _claims(root, _of_book("A")),
        "phenomena_chapters": lambda text: _chapters(text, _of_book("P")),
        "analyses_chapters": lambda text: _chapters(text, _of_book("A")),
    }
    return {root / file: _filled((root / file).read_text(), blocks) for file in FILES}


_BLOCK = re.compile(
    r"(^ *(?:<!--|#) pages: (\w+).*\n)((?:.*\n)*?)(^ *(?:<!--|#) end\b)", re.MULTILINE
)


def _filled(text: str, blocks: Mapping[str, Callable[[str], str]]) -> str:
    """A page with each of its blocks written anew, from the rest of the page."""
    rest = _BLOCK.sub("", text)

    def block(found: re.Match) -> str:
        start, name, _, end = found.groups()
        if name not in blocks:
            raise ConfigError(unknown("block", name, blocks))
        return f"{start}{blocks[name](rest)}\n{end}"

    return _BLOCK.sub(block, text)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _of_book(letters: str) -> list[Claim]:
    """The book's claims by letter: the paper's phenomena (P), ours (O), its analyses (A)."""
    return [c for c in in_order() if c.family == "book" and c.id[0] in letters]


def _recorded(root: Path) -> RunStore:
    return RunStore(root / "book" / "records")


def _title(root: Path, chapter: str) -> str:
    """The heading of a chapter, which for a phenomenon is what was found."""
    notebook = nbformat.read(root / "notebooks" / f"{chapter}.ipynb", as_version=4)
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


def _found(root: Path, verdict: Mapping[str, Verdict]) -> str:
    """The phenomena: what the paper says, what the book's records show, and why."""
    return "\n\n".join(
        f"**[{_title(root, claim.chapter)}](../notebooks/{claim.chapter}.ipynb)**\\\n"
        f"*The paper says:* {claim.says}\\\n"
        f"*We see* ({claim.id}, **{verdict[claim.id].verdict}**): {verdict[claim.id].why}\\\n"
        f"*Why:* {claim.because}"
        for claim in _of_book("P")
    )


def _in_darts(root: Path) -> str:
    """P3 in DARTS, in a sentence."""
    arms = load_experiment("picture_in_darts", "published", _recorded(root))
    one, two = (np.array([kept_edges(run)[-1] for run in arms[arm]]) for arm in (ONE, TWO))
    edges = len(arms[TWO][0].config.space.edges)
    return (
        f"In DARTS, where the paper saw the failure, two levels keep {two.mean():.1f} of {edges} "
        f"edges on average, and no edge at all in {(two == 0).sum()} of {len(two)} seeds; one "
        f"level keeps {one.mean():.1f}."
    )


def _verdicts(found: Mapping[str, Verdict]) -> str:
    """What the book's records say of each claim, in a line; tests and checks apart."""
    parts = []
    for tested, kind, good in ((True, "claim", "supported"), (False, "identity", "holds")):
        claims = [claim for claim in _of_book("POA") if claim.tested == tested]
        words = [found[claim.id].verdict for claim in claims]
        rows = [
            [f"{claim.id} {claim.short}", f"**{found[claim.id].verdict}**", found[claim.id].why]
            for claim in claims
        ]
        told = f"{words.count(good)} of {len(words)}: {good}"
        parts.append(_table([kind, told, "what we measured"], rows))
    return "\n\n".join(parts)


def _claims(root: Path, claims: list[Claim]) -> str:
    """Claims and the chapters that show them."""

    def link(chapter: str) -> str:
        return f"[{_title(root, chapter).partition(':')[0]}](../notebooks/{chapter}.ipynb)"

    rows = [[f"{claim.id} {claim.short}", link(claim.chapter)] for claim in claims]
    return _table(["claim", "chapter"], rows)


def _chapters(rest: str, claims: list[Claim]) -> str:
    """The chapters of claims, as entries of the table of contents that it does not have yet."""
    entries = dict.fromkeys(f"      - file: notebooks/{claim.chapter}" for claim in claims)
    return "\n".join(entry for entry in entries if entry not in rest.splitlines())


def _normal(mean: float, std: float) -> str:
    return f"N({mean:g}, {std:g})" if std else f"{mean:g}"


def _data(config: SearchConfig) -> str:
    size = config.image_size
    return f"`{config.dataset}`" + (f", {size}x{size}" if size else "")


def _epochs(config: SearchConfig) -> str:
    return f"{config.epochs} of {config.sizes['train'] // config.batch_size} steps"


_SETTINGS: Sequence[tuple[str, Callable[[SearchConfig], str], str]] = (
    ("data", _data, "an hour or minutes on two cores"),
    ("examples for $\\theta$", lambda c: f"{c.sizes['train']:,}", "the same"),
    (
        "augmentation",
        lambda c: "crop and flip" if c.augment else "none",
        "a flipped digit is no digit",
    ),
    (
        "cells, channels",
        lambda c: f"{c.cells}, {c.channels}",
        "one cell, as the authors measured costs",
    ),
    ("epochs", _epochs, "the same"),
    (
        "learning rate of $\\theta$",
        lambda c: f"{c.lr:g}",
        "with fewer steps, larger ones; the network is then sure and wrong early",
    ),
    (
        "learning rate of $\\alpha$",
        lambda c: f"{c.arch_lr:g}",
        "in a hundredth of the steps $\\alpha$ must get as far",
    ),
    (
        "initial $\\alpha$",
        lambda c: _normal(c.alpha_mean, c.alpha_std),
        "only differences matter, but Adam's weight decay pulls towards 0",
    ),
)
"""Rows of the table of settings: what, how it reads, and why it differs from the authors'."""


def _settings() -> str:
    """Where the profiles differ: the picture, on one level and where the level is switched."""
    profiles = ("paper", "published", "laptop")
    arms = [configs_of("picture", profile) for profile in profiles]
    one, two = ([several[arm][0] for several in arms] for arm in (ONE, TWO))
    least = next(n for n in count(1) if bonferroni(2.0**-n, count_tested()) <= SIGNIFICANCE)
    rows = [[what, *map(show, one), why] for what, show, why in _SETTINGS]
    rows += [
        [
            "examples for $\\theta$ and $\\alpha$, two levels",
            *(f"{c.sizes['train']:,} and {c.sizes['search']:,}" for c in two),
            "few for $\\theta$, so that it knows them better than those of $\\alpha$",
        ],
        [
            "seeds",
            *(str(len(several[ONE])) for several in arms),
            f"fewer than {least} cannot support a claim",
        ],
    ]
    deciding = ", ".join(c.id for c in _of_book("POA") if c.experiment == "picture")
    told = f"These are the searches of {deciding}; the analyses use the same network."
    table = _table(["", *(f"`{profile}`" for profile in profiles), "why"], rows)
    return f"{told}\n\n{table}"


def draw_picture(root: Path) -> Path:
    """Draws the picture of the first page and of README from the book's records."""
    plots.set_style()
    path = root / "book" / "figures" / "picture.png"
    figure = plots.picture(load_experiment("picture", "published", _recorded(root)))
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path
