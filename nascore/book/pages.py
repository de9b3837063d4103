"""What pages take from the code: the tables of claims and settings, and the claims' chapters.

A block of a page lies between two marks, ``pages: name`` and ``end``, each a comment of its own.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path

import nbformat

from nascore.errors import ConfigError, unknown
from nascore.evidence.claims import Claim
from nascore.evidence.experiments import configs_of, flat
from nascore.evidence.profiles import SEEDS
from nascore.evidence.significance import SIGNIFICANCE, bonferroni
from nascore.evidence.verdicts import count_tested, in_order, verdicts
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
    blocks = {
        "verdicts": lambda text: _verdicts(root),
        "settings": lambda text: _settings(),
        "phenomena": lambda text: _claims(root, _of_paper("P")),
        "analyses": lambda text: _claims(root, _of_paper("A")),
        "phenomena_chapters": lambda text: _chapters(text, _of_paper("P")),
        "analyses_chapters": lambda text: _chapters(text, _of_paper("A")),
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


def _of_paper(letter: str) -> list[Claim]:
    """The paper's phenomena (P) or analyses (A)."""
    return [c for c in in_order() if c.family == "paper" and c.id.startswith(letter)]


def _verdicts(root: Path) -> str:
    """What the book's records say of each claim, in a line."""
    found = verdicts("published", RunStore(root / "book" / "records"))
    columns = ["claim of the paper", "verdict", "what we measured"]
    return _table(
        columns,
        [
            [f"{claim.id} {claim.short}", f"**{found[claim.id].verdict}**", found[claim.id].why]
            for claim in _of_paper("P") + _of_paper("A")
        ],
    )


def _claims(root: Path, claims: list[Claim]) -> str:
    """Claims and the chapters that show them."""

    def link(chapter: str) -> str:
        notebook = nbformat.read(root / "notebooks" / f"{chapter}.ipynb", as_version=4)
        title = notebook.cells[0].source.splitlines()[0].removeprefix("# ").partition(":")[0]
        return f"[{title}](../notebooks/{chapter}.ipynb)"

    rows = [[f"{claim.id} {claim.short}", link(claim.chapter)] for claim in claims]
    return _table(["claim", "chapter"], rows)


def _chapters(rest: str, claims: list[Claim]) -> str:
    """The chapters of claims, as entries of the table of contents that it does not have yet."""
    entries = dict.fromkeys(f"      - file: notebooks/{claim.chapter}" for claim in claims)
    return "\n".join(entry for entry in entries if entry not in rest.splitlines())


def _percent(share: float) -> str:
    return f"{100 * share:.0f} percent" if share else "none"


def _normal(mean: float, std: float) -> str:
    return f"N({mean:g}, {std:g})" if std else f"{mean:g}"


def _data(config: SearchConfig) -> str:
    size = config.image_size
    return f"`{config.dataset}`" + (f", {size}x{size}" if size else "")


def _epochs(config: SearchConfig) -> str:
    return f"{config.epochs} of {config.sizes['train'] // config.batch_size} steps"


_SETTINGS: Sequence[tuple[str, Callable[[SearchConfig], str], str]] = (
    ("data", _data, "hours and minutes on two cores"),
    ("examples for $\\theta$", lambda c: f"{c.sizes['train']:,}", "the same"),
    (
        "augmentation",
        lambda c: "crop and flip" if c.augment else "none",
        "a flipped digit is no digit",
    ),
    ("cells, channels", lambda c: f"{c.cells}, {c.channels}", ""),
    ("epochs", _epochs, ""),
    (
        "learning rate of $\\theta$",
        lambda c: f"{c.lr:g}",
        "with fewer steps, larger ones; the network is then overconfident early, which P1 needs",
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
    """Where the profiles differ, from the configs of the experiments on growing and failure."""
    profiles = ("paper", "published", "laptop")

    def first(experiment: str) -> list[SearchConfig]:
        return [flat(configs_of(experiment, profile, seeds=1))[0] for profile in profiles]

    def deciding(experiment: str) -> str:
        claims = _of_paper("P") + _of_paper("A")
        return ", ".join(claim.id for claim in claims if claim.experiment == experiment)

    least = next(n for n in count(1) if bonferroni(2.0**-n, count_tested()) <= SIGNIFICANCE)
    rows = [[what, *map(show, first("growing")), why] for what, show, why in _SETTINGS]
    rows += [
        [
            f"label noise ({deciding('bilevel_failure')})",
            *(_percent(config.label_noise) for config in first("bilevel_failure")),
            "small networks on easy images are not overconfident",
        ],
        [
            "seeds of tested claims",
            *(str(SEEDS[profile]) for profile in profiles),
            f"fewer than {least} cannot support a claim",
        ],
    ]
    return (
        f"Where no claim is named, these are the searches of {deciding('growing')}.\n\n"
        + _table(["", *(f"`{profile}`" for profile in profiles), "why"], rows)
    )
