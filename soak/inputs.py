"""Bad input: one line that is not a traceback, an exit code that is not 0, and nothing written."""

import os
import random
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin

from nascore import SearchConfig
from nascore.__main__ import main
from soak.trials import FORK, Attack

TINY = [
    *("search", "--quiet", "--dataset", "synthetic", "--train-examples", "64", "--no-augment"),
    *("--cells", "1", "--channels", "4", "--batch-size", "32", "--epochs", "1"),
]
NO_NUMBERS = ("", " ", "many", "nan", "inf", "-inf", "1e400", "[1]", "{}", "1,5", "0x10", "--", "½")
NO_WHOLE_NUMBERS = (*NO_NUMBERS, "1.5", "-1", "-" + 400 * "9")
NO_NAMES = ("", " ", "nothing", "../x", "no_module:X", "os:path", "a:b:c", ":", "x\ny", 500 * "x")
NO_LISTS = ("nothing", "conv_9x9", "[{}]", "1.5", "none,,nothing", "os:path")

OTHERS = [
    ["show", "nothing.nc"],
    ["show", "."],
    ["show", "/dev/null"],
    ["show", "/dev/zero/x.nc"],
    ["sweep", "pictur"],
    ["sweep", "picture", "--profile", "publish", "--store", "runs"],
    ["sweep", "picture", "--profile", "smoke", "--workers=-1", "--store", "runs"],
    ["sweep", "picture", "--profile", "smoke", "--seeds", "0", "--store", "runs"],
    ["sweep", "picture", "--profile", "smoke", "--seeds=-3", "--store", "runs"],
    ["sweep", "picture", "--profile", "smoke", "--store", "/dev/null/runs"],
    ["sweep", "picture", "--set", "epoch=3"],
    ["judge", "P9"],
    ["judge", "my_module:skip"],
    ["runs", "--store", "nowhere"],
    ["runs", "--store", "/dev/null"],
]
"""Commands but search."""


def from_tests() -> list[list[str]]:
    """The wrong command lines that the tests of the command line have as "words"."""
    lines = []
    for test in vars(import_module("tests.test_main")).values():
        for mark in getattr(test, "pytestmark", ()):
            if mark.name == "parametrize" and mark.args[0].split(",")[0] == "words":
                lines += [list(map(str, words)) for words, *_ in mark.args[1]]
    return lines


def command_lines() -> list[list[str]]:
    """Every command line that is wrong in one thing, once."""
    lines = [*OTHERS, *from_tests()]
    for name, field in SearchConfig.model_fields.items():
        if field.annotation is bool or name == "framework_options":
            continue
        option = f"--{name.replace('_', '-')}"
        lines += [[*TINY, f"{option}={value}"] for value in _bad_values(name, field.annotation)]
    options = ("temperature", "temperature=hot", "temperature=-1", "luck=2", "=", "", "a=b=c")
    lines += [[*TINY, "--framework", "snas", "--option", option] for option in options]
    lines += [[*TINY, "--out", out] for out in ("/dev/null/x.nc", "/proc/x.nc", ".")]
    lines += [[*TINY, "--store", store] for store in ("/dev/null/runs", "/proc/runs")]
    return [list(words) for words in dict.fromkeys(map(tuple, lines))]


def _bad_values(name: str, kind: type) -> tuple[str, ...]:
    """What is no value of a field, by its type."""
    kinds = {kind} if get_origin(kind) is not UnionType else set(get_args(kind)) - {type(None)}
    kinds = {get_args(one)[0] if get_origin(one) not in (None, tuple) else one for one in kinds}
    if name == "alpha_mean":
        return NO_NUMBERS
    if float in kinds:
        return (*NO_NUMBERS, "-1")
    if int in kinds or name in ("inputs", "order"):
        return NO_WHOLE_NUMBERS
    return NO_LISTS if name in ("operations", "output_nodes", "allowed") else NO_NAMES


def bad_input(lines: list[list[str]], number: int, chance: random.Random, folder: Path):
    """One command line, in an empty folder."""
    words, start = lines[number], time.monotonic()
    empty, out, err = folder / "empty", folder / "out", folder / "err"
    empty.mkdir()
    child = FORK.Process(target=_command, args=(words, empty, out, err))
    child.start()
    child.join(20)
    if child.exitcode is None:
        child.kill()
        child.join()
    seconds = time.monotonic() - start
    message = err.read_text(encoding="utf-8", errors="replace").strip()
    wrong = [] if child.exitcode in (1, 2) else [f"exit code {child.exitcode}"]
    wrong += [] if len(message.splitlines()) == 1 else [f"{len(message.splitlines())} lines"]
    wrong += ["a traceback"] if "Traceback" in message else []
    wrong += [f"it writes {path.name}" for path in empty.rglob("*") if path.is_file()]
    wrong += [f"{seconds:.0f} s"] if seconds > 10 else []
    shown = " ".join(words).replace(" ".join(TINY), "search")[:100]
    return 1, [f"{shown!r}: {', '.join(wrong)}: {message[-200:]!r}"] if wrong else []


def _command(words: list[str], folder: Path, out: Path, err: Path) -> None:
    """Runs a command line in a folder, with its output in files."""
    os.chdir(folder)
    for handle, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), handle)
    sys.argv = ["nascore", *words]
    main()


def attacks(most: int) -> list[Attack]:
    """Every bad input, or so many of them at most."""
    lines = command_lines()
    random.Random(0).shuffle(lines)
    return [Attack("bad inputs", min(most, len(lines)), partial(bad_input, lines))]
