"""What is measured. Every case returns what goes into the results, as plain numbers and text.

The reference shape R is 3x32x32, batch 96, 8 cells, C = 16, minimal cell, eight operations.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import baselines
import torch
from measure import exponent, process, ratio, rounds, seconds

from nascore import SearchConfig, sweep
from nascore.engine.cpu.depthwise import Depthwise
from nascore.engine.cpu.memory import keep_freed_memory, peak_memory
from nascore.engine.operations import OPERATIONS, operation
from nascore.engine.space import CANDIDATES, Wiring
from nascore.evidence.experiments import growing
from nascore.runs.datasets import dataset
from nascore.runs.loop import Searcher

BATCH = 96
CLASSES = 10
MASKS = 5  # that the discrete steps are timed with


def searcher_at(size: int = 32, batch: int = BATCH, **settings) -> Searcher:
    """A searcher on random images (3, size, size); alpha and theta all but stand still."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2 * batch, 3, size, size, generator=generator).numpy()
    labels = torch.arange(2 * batch).remainder(CLASSES).numpy()
    add = dataset("benchmark", examples=2 * batch, classes=CLASSES, channels=3, replace=True)
    add(lambda: (images, labels))
    still = {"arch_lr": 1e-12, "lr": 1e-6, "lr_min": 0, "batch_size": batch, "augment": False}
    searcher = Searcher(SearchConfig(**{**still, "dataset": "benchmark", **settings}))
    searcher.start_statistics()
    return searcher


def step_of(searcher: Searcher) -> Callable[[], None]:
    """A whole search step on one batch: for a bi-level search, one on each of its splits."""
    batches = {split: next(searcher.batches(split)) for split in searcher.learning_splits}

    def step():
        for split, batch in batches.items():
            searcher.step(*batch, split, ahead=batches.get("train"))

    return step


def dense(device: str, count: int) -> dict:
    """Steps of the dense frameworks, against the textbook and against what each lever replaced."""
    keep_freed_memory()
    at = {"device": device, "framework": "darts"}
    searchers = {
        "DARTS": searcher_at(**at),
        "SNAS": searcher_at(device=device, framework="snas"),
        "DARTS, bi-level": searcher_at(level="bi", search_examples=BATCH, **at),
        "DARTS, recompute": searcher_at(recompute=True, **at),
        "DARTS, not folded": searcher_at(**at),
        "DARTS, textbook": searcher_at(**at),
    }
    baselines.without_folding(searchers["DARTS, not folded"].supernet)
    baselines.textbook(searchers["DARTS, textbook"])
    if device != "cpu":
        searchers["DARTS, channels last"] = searcher_at(channels_last=True, **at)
        searchers["DARTS, amp"] = searcher_at(amp=True, **at)
        searchers["DARTS, amp, channels last"] = searcher_at(amp=True, channels_last=True, **at)
    steps = {name: step_of(searcher) for name, searcher in searchers.items()}
    times = rounds(steps, count, searchers["DARTS"].device, "dense")
    rows = [
        ratio(times, "DARTS, textbook", "DARTS", ">= 3.5"),
        ratio(times, "DARTS, not folded", "DARTS"),
        ratio(times, "DARTS, bi-level", "DARTS", "<= 2.1"),
        ratio(times, "DARTS, recompute", "DARTS"),
        ratio(times, "SNAS", "DARTS"),
    ]
    known = {row["step"] for row in rows} | {"DARTS"}
    rows += [ratio(times, name, "DARTS") for name in steps if name not in known]
    return {"rows": rows}


def discrete(device: str, count: int) -> dict:
    """DSNAS steps against the plain network of the mask, and against what each lever replaced.

    A mask with fewer than two convolutions is passed over: it costs so little that it says little.
    """
    keep_freed_memory()
    on_cpu = device == "cpu"
    layout = "NCHW instead of channels last" if on_cpu else "channels last instead of NCHW"
    searchers = {
        "DSNAS": searcher_at(device=device),
        "DSNAS, weight as a product": searcher_at(device=device),
        "DSNAS, torch's depthwise": searcher_at(device=device),
        "DSNAS, torch's concatenation": searcher_at(device=device),
        "DSNAS, bi-level": searcher_at(device=device, level="bi", search_examples=BATCH),
        f"DSNAS, {layout}": searcher_at(device=device, channels_last=not on_cpu),
    }
    baselines.with_the_weight_as_a_product(searchers["DSNAS, weight as a product"].supernet)
    baselines.with_torchs_depthwise(searchers["DSNAS, torch's depthwise"].supernet)
    baselines.with_torchs_concatenation(searchers["DSNAS, torch's concatenation"].supernet)
    one = searchers["DSNAS"]
    images, labels = next(one.batches("train"))
    masks, total = torch.Generator(one.device).manual_seed(1), {}
    for mask in range(MASKS):
        names = ()
        while sum("conv" in name for name in names) < 2:
            active = one.framework.draw(torch.zeros_like(one.alpha), masks).active
            names = tuple(one.space.operations[row[0]] for row in active)
        for searcher in searchers.values():
            sample_only(searcher, names)
        steps = {name: step_of(searcher) for name, searcher in searchers.items()}
        wiring = Wiring(one.space, names)
        steps["plain network"] = baselines.plain_step(wiring, one, images, labels)
        times = rounds(steps, -(-count // MASKS), one.device, f"discrete, mask {mask + 1}/{MASKS}")
        for name, values in times.items():
            total.setdefault(name, []).extend(values)
    return {
        "rows": [
            ratio(total, "DSNAS", "plain network", "<= 1.05"),
            ratio(total, "DSNAS, bi-level", "DSNAS", "<= 2.1"),
            *(
                ratio(total, name, "DSNAS")
                for name in searchers
                if name not in ("DSNAS", "DSNAS, bi-level")
            ),
        ]
    }


def sample_only(searcher: Searcher, names: tuple[str, ...]) -> None:
    """Gives alpha the value from which these operations are drawn, whatever the noise."""
    chosen = [searcher.space.operations.index(name) for name in names]
    with torch.no_grad():
        searcher.alpha.zero_()
        searcher.alpha[range(len(chosen)), chosen] = 1000.0


def candidates(device: str, count: int) -> dict:
    """DSNAS steps that sample the same operations from 4, 8 and 16 candidates."""
    keep_freed_memory()
    four = ("none", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
    eight = (*four, *(name for name in CANDIDATES if name not in four))
    more = [f"candidate_{n}" for n in range(8)]
    for name in more:
        operation(name)(OPERATIONS["sep_conv_3x3"])
    names = ("sep_conv_3x3", "dil_conv_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
    steps = {}
    for chosen in (four, eight, (*eight, *more)):
        searcher = searcher_at(device=device, operations=chosen)
        sample_only(searcher, names)
        steps[f"{len(chosen)} candidates"] = step_of(searcher)
    times = rounds(steps, count, searcher.device, "candidates")
    goal = "<= 1.05"
    return {"rows": [ratio(times, f"{n} candidates", "4 candidates", goal) for n in (8, 16)]}


def bookkeeping(device: str, count: int) -> dict:
    """What statistics and data take of a DSNAS step, each timed by itself, as shares of the step.

    At R with augmentation, and at the shape of the laptop profile, whose steps are short.
    """
    keep_freed_memory()
    laptop = growing("laptop")["single-level"][0].replace(device=device)
    searchers = {"R": searcher_at(device=device, augment=True), "laptop": Searcher(laptop)}
    rows = []
    for name, searcher in searchers.items():
        searcher.start_statistics()
        batches = searcher.batches("train")
        images, labels = next(batches)
        mask = searcher.framework.draw(searcher.alpha, searcher.streams["mask"])
        logits = searcher.supernet(images, mask)
        cost = torch.rand(searcher.config.cells, *searcher.alpha.shape, device=searcher.device)

        def update(searcher=searcher, logits=logits, labels=labels, mask=mask, c=cost):
            searcher.outcomes["train"].update(logits, labels)
            searcher.costs.update(c, mask.seen(searcher.space))
            searcher.output_costs.update(c[:, 0, 0], len(labels))

        steps = {
            "whole step": lambda s=searcher, b=batches: s.step(*next(b), "train"),
            "statistics": update,
            "history": lambda s=searcher: s._write(1, 0.0),
            "data": lambda b=batches: next(b),
        }
        times = rounds(steps, max(count, 40), searcher.device, f"bookkeeping, {name}")
        # The history is written once in an epoch; here an epoch of R has as many steps as CIFAR-10.
        per_epoch = searcher.steps if name == "laptop" else 50_000 // BATCH
        times["statistics and history"] = [
            a + b / per_epoch for a, b in zip(times["statistics"], times["history"], strict=True)
        ]
        for part, goal in (("statistics and history", "<= 0.02"), ("data", "<= 0.03")):
            row = ratio(times, part, "whole step", goal)
            rows.append({**row, "step": f"{part}, {name}", "baseline": f"DSNAS step, {name}"})
    return {"rows": rows}


def memory(device: str, count: int) -> dict:
    """Peak memory of a dense step in MiB, above what the process held before, one process each."""
    peaks = {}
    for name in ("DARTS, textbook", "DARTS", "DARTS, recompute"):
        with process() as one:
            peaks[name] = one.submit(_peak, name, device).result()
    ratios = {name: peak / peaks["DARTS, textbook"] for name, peak in peaks.items()}
    return {"mib": peaks, "ratio": ratios, "goal": "DARTS <= 0.6 of the textbook"}


def _peak(name: str, device: str) -> float:
    keep_freed_memory()
    recompute = name.endswith("recompute")
    searcher = searcher_at(device=device, framework="darts", recompute=recompute)
    if name.endswith("textbook"):
        baselines.textbook(searcher)
    step = step_of(searcher)
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        step()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = peak_memory()
    step()
    step()
    return (peak_memory() - before) / 2**20


def allocator(device: str, count: int) -> dict:
    """Steps in a process that keeps freed memory and in one that does not, turn by turn."""
    rows = []
    for framework in ("darts", "dsnas"):
        with process() as keeping, process() as plain:
            for one, keep in ((keeping, True), (plain, False)):
                one.submit(_prepare, framework, device, keep).result()
            name = framework.upper()
            steps = {
                f"{name}, freed memory handed back": lambda: plain.submit(_step).result(),
                name: lambda: keeping.submit(_step).result(),
            }
            times = rounds(steps, count, torch.device("cpu"), f"allocator, {name}")
        rows.append(ratio(times, f"{name}, freed memory handed back", name))
    return {"rows": rows}


def _prepare(framework: str, device: str, keep: bool) -> None:
    if keep:
        keep_freed_memory()
    global _step_here
    searcher = searcher_at(device=device, framework=framework)
    if framework == "dsnas":
        names = ("sep_conv_3x3", "dil_conv_3x3", "max_pool_3x3", "sep_conv_5x5", "dil_conv_5x5")
        sample_only(searcher, names)
    _step_here = step_of(searcher)


def _step() -> None:
    _step_here()


def workers(device: str, count: int) -> dict:
    """Seeds that run at the same time against one after the other, on a GPU sharing the device.

    Of the searches alone, and of the whole sweep, which also starts the processes and waits for the
    longest search.
    """
    base = growing("laptop")["single-level"][0].replace(device=device)
    rows = []
    for number in (2,) if device == "cpu" else (2, 4, 8):
        configs = [base.replace(seed=seed) for seed in range(number)]
        orders = {"one after the other": 1, f"{number} at a time": number}
        searches, sweeps = ({name: [] for name in orders} for _ in range(2))
        for turn in range(3):
            for name, at_a_time in list(orders.items())[:: 1 if turn % 2 else -1]:
                with tempfile.TemporaryDirectory() as folder:
                    start = time.perf_counter()
                    runs = sweep(configs, store=folder, workers=at_a_time, progress=False)
                    sweeps[name].append(time.perf_counter() - start)
                taken = sum(run.provenance["wall_seconds"] for run in runs)
                searches[name].append(taken / at_a_time)
        goal = ">= 1.85" if number == 2 else ""
        for what, times in (("searches", searches), ("whole sweep", sweeps)):
            row = ratio(times, "one after the other", f"{number} at a time", goal)
            rows.append(
                {
                    **row,
                    "step": f"{what}, one after the other",
                    "baseline": f"{what}, {number} at a time",
                    "goal": goal if what == "searches" else "",
                }
            )
    return {"rows": rows}


def growth(device: str, count: int) -> dict:
    """Seconds of a step along each axis, from a base of 16x16 images, batch 32, 4 cells, C = 16.

    In the discrete steps every edge samples sep_conv_3x3.
    """
    keep_freed_memory()
    base = {"size": 16, "batch": 32, "cells": 4, "channels": 16, "nodes": 2}
    axes = {
        "nodes": (1, 2, 3, 4, 5, 6),
        "cells": (1, 2, 4, 8, 16),
        "channels": (4, 8, 16, 32, 64),
        "size": (8, 16, 24, 32, 48),
    }
    series = []
    for framework in ("dsnas", "darts"):
        for axis, values in axes.items():
            steps, x = {}, []
            for value in values:
                searcher = searcher_at(framework=framework, device=device, **{**base, axis: value})
                if framework == "dsnas":
                    sample_only(searcher, ("sep_conv_3x3",) * len(searcher.space.edges))
                steps[str(value)] = step_of(searcher)
                x.append(len(searcher.space.edges) if axis == "nodes" else value)
            times = rounds(steps, count, searcher.device, f"growth, {framework}, {axis}")
            y = [statistics.median(values) for values in times.values()]
            name = {"nodes": "edges", "size": "image size"}.get(axis, axis)
            series.append(
                {
                    "framework": framework,
                    "axis": name,
                    "x": x,
                    "seconds": y,
                    "exponent": exponent(x, y),
                }
            )
    return {"base": base, "series": series}


def start(device: str, count: int) -> dict:
    """Seconds until the command line shows its help, and until the package is imported."""
    commands = {
        "import nascore": ["-c", "import nascore"],
        "python -m nascore --help": ["-m", "nascore", "--help"],
        "from nascore import *": ["-c", "from nascore import *"],
        "import torch": ["-c", "import torch"],
    }
    goals = {"import nascore": "< 2", "python -m nascore --help": "< 1"}
    steps = {
        name: lambda rest=rest: subprocess.run(
            [sys.executable, *rest], check=True, stdout=subprocess.DEVNULL
        )
        for name, rest in commands.items()
    }
    times = rounds(steps, count, torch.device("cpu"), "start")
    return {
        "rows": [
            {"step": name, "seconds": statistics.median(values), "goal": goals.get(name, "")}
            for name, values in times.items()
        ]
    }


def compiled(device: str, count: int) -> dict:
    """DARTS steps after torch.compile, the time it takes, and after how many steps that is paid."""
    keep_freed_memory()
    rows = []
    for name, settings in {
        "8x8, C = 8, 4 cells": {"size": 8, "channels": 8, "cells": 4},
    }.items():
        at = {"device": device, "framework": "darts", **settings}
        plain = searcher_at(**at)
        steps = {
            "DARTS": step_of(plain),
            "DARTS, compiled": step_of(searcher_at(compile=True, **at)),
        }
        try:
            compiling = seconds(steps["DARTS, compiled"], plain.device)
        except Exception as error:  # the compiler's, of any kind: the option does not work here
            rows.append({"shape": name, "error": str(error).splitlines()[0][:200]})
            continue
        row = ratio(rounds(steps, count, plain.device, "compiled"), "DARTS, compiled", "DARTS")
        gained = row["baseline_seconds"] - row["seconds"]
        pays = round(compiling / gained) if gained > 0 else None
        rows.append({**row, "shape": name, "compiling_seconds": compiling, "pays_after": pays})
    return {"rows": rows}


def depthwise(device: str, count: int) -> dict:
    """Forward and backward of a depthwise convolution against torch's own."""
    rows = []
    for kernel, dilation in ((3, 2), (5, 2), (5, 1)):
        for channels, size in ((8, 8), (16, 14), (16, 32)):
            last = torch.channels_last
            module = Depthwise(channels, kernel, dilation)
            module = module.to(device, memory_format=last)
            torchs = partial(torch.nn.Conv2d.forward, module)
            x = torch.randn(BATCH, channels, size, size, device=device).to(memory_format=last)
            gradient = torch.randn_like(x)
            x.requires_grad_()
            steps = {
                "ours": lambda m=module, x=x, g=gradient: m(x).backward(g),
                "torch": lambda m=torchs, x=x, g=gradient: m(x).backward(g),
            }
            times = rounds(steps, max(count, 20), x.device, "depthwise")
            shape = f"{kernel}x{kernel}, dilation {dilation}, {channels}x{size}x{size}"
            rows.append({**ratio(times, "ours", "torch"), "shape": shape})
    return {"rows": rows}


CASES = {
    case.__name__: case
    for case in (
        start,
        discrete,
        candidates,
        dense,
        memory,
        allocator,
        bookkeeping,
        workers,
        growth,
        depthwise,
        compiled,
    )
}
"""Every case by name, in the order in which they run."""
