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
from unittest.mock import patch

import baselines
import torch
from measure import exponent, process, ratio, rounds, seconds

from nascore import SearchConfig, sweep
from nascore.engine.operations import OPERATIONS, operation
from nascore.engine.space import CANDIDATES, Wiring
from nascore.evidence.experiments import ONE, configs_of
from nascore.fast.depthwise import Depthwise
from nascore.fast.memory import keep_freed_memory, peak_memory
from nascore.frameworks.base import LEARNERS, Context
from nascore.runs.algorithm import Search
from nascore.runs.datasets import dataset

BATCH = 96
CLASSES = 10
MASKS = 5  # that the discrete steps are timed with
KINDS = 24  # steps after which a discrete step has met, and compiled, every kind of operation


def setup_at(size: int = 32, batch: int = BATCH, **settings) -> Search:
    """A search on random images (3, size, size); alpha and theta all but stand still."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2 * batch, 3, size, size, generator=generator).numpy()
    labels = torch.arange(2 * batch).remainder(CLASSES).numpy()
    add = dataset("benchmark", examples=2 * batch, classes=CLASSES, channels=3)
    add(lambda: (images, labels))
    still = {"arch_lr": 1e-12, "lr": 1e-6, "lr_min": 0, "batch_size": batch, "augment": False}
    return Search(SearchConfig(**{**still, "dataset": "benchmark", **settings}))


def step_of(search: Search) -> Callable[[], None]:
    """A whole step of a search, always on the same batches."""
    batches = {split: search.batch(split) for split in search.batches}
    search.batch = batches.get
    return whole_step(search)


def whole_step(search: Search) -> Callable[[], None]:
    """A whole step of a search, statistics included."""
    levels = {"single": search.one_level, "bi": search.two_levels}
    return partial(levels[search.config.level], LEARNERS)


def dense(device: str, count: int) -> dict:
    """Steps of the dense frameworks, against the textbook and against what each lever replaced."""
    keep_freed_memory()
    at = {"device": device, "framework": "darts"}
    setups = {
        "DARTS": setup_at(**at),
        "SNAS": setup_at(device=device, framework="snas"),
        "DARTS, bi-level": setup_at(level="bi", search_examples=BATCH, **at),
        "DARTS, recompute": setup_at(recompute=True, **at),
        "DARTS, textbook": setup_at(**at),
    }
    baselines.textbook(setups["DARTS, textbook"])
    if device != "cpu":
        setups["DARTS, channels last"] = setup_at(channels_last=True, **at)
        setups["DARTS, amp"] = setup_at(amp=True, **at)
        setups["DARTS, amp, channels last"] = setup_at(amp=True, channels_last=True, **at)
    steps = {name: step_of(setup) for name, setup in setups.items()}
    times = rounds(steps, count, setups["DARTS"].device, "dense")
    rows = [
        ratio(times, "DARTS, textbook", "DARTS", ">= 3.5"),
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
    setups = {
        "DSNAS": setup_at(device=device),
        "DSNAS, weight as a product": setup_at(device=device),
        "DSNAS, torch's depthwise": setup_at(device=device),
        "DSNAS, torch's concatenation": setup_at(device=device),
        "DSNAS, bi-level": setup_at(device=device, level="bi", search_examples=BATCH),
        f"DSNAS, {layout}": setup_at(device=device, channels_last=not on_cpu),
    }
    baselines.with_the_weight_as_a_product(setups["DSNAS, weight as a product"].supernet)
    baselines.with_torchs_depthwise(setups["DSNAS, torch's depthwise"].supernet)
    baselines.with_torchs_concatenation(setups["DSNAS, torch's concatenation"].supernet)
    one = setups["DSNAS"]
    batch = one.batch()
    uniform, total = {"alpha": torch.zeros_like(one.alpha)}, {}
    context = Context(uniform, generator=torch.Generator(one.device).manual_seed(1))
    for mask in range(MASKS):
        names = ()
        while sum("conv" in name for name in names) < 2:
            active = one.framework.draw(context).active
            names = tuple(one.space.operations[row[0]] for row in active)
        for setup in setups.values():
            sample_only(setup, names)
        steps = {name: step_of(setup) for name, setup in setups.items()}
        wiring = Wiring(one.space, names)
        steps["plain network"] = baselines.plain_step(wiring, one, batch)
        times = rounds(steps, -(-count // MASKS), one.device, f"discrete, mask {mask + 1}/{MASKS}")
        for name, values in times.items():
            total.setdefault(name, []).extend(values)
    return {
        "rows": [
            ratio(total, "DSNAS", "plain network", "<= 1.05"),
            ratio(total, "DSNAS, bi-level", "DSNAS", "<= 2.1"),
            *(
                ratio(total, name, "DSNAS")
                for name in setups
                if name not in ("DSNAS", "DSNAS, bi-level")
            ),
        ]
    }


def sample_only(search: Search, names: tuple[str, ...]) -> None:
    """Gives alpha the value from which these operations are drawn, whatever the noise."""
    chosen = [search.space.operations.index(name) for name in names]
    with torch.no_grad():
        search.alpha.zero_()
        search.alpha[range(len(chosen)), chosen] = 1000.0


def candidates(device: str, count: int) -> dict:
    """DSNAS steps that sample the same operations from 4, 8 and 16 candidates."""
    keep_freed_memory()
    four = ("none", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
    eight = (*four, *(name for name in CANDIDATES if name not in four))
    more = [f"candidate_{n}" for n in range(8)]
    names = ("sep_conv_3x3", "dil_conv_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
    steps = {}
    with patch.dict(OPERATIONS._known):  # which then forgets them
        for name in more:
            operation(name)(OPERATIONS["sep_conv_3x3"])
        for chosen in (four, eight, (*eight, *more)):
            setup = setup_at(device=device, operations=chosen)
            sample_only(setup, names)
            steps[f"{len(chosen)} candidates"] = step_of(setup)
    times = rounds(steps, count, setup.device, "candidates")
    goal = "<= 1.05"
    return {"rows": [ratio(times, f"{n} candidates", "4 candidates", goal) for n in (8, 16)]}


def bookkeeping(device: str, count: int) -> dict:
    """What statistics and data take of a DSNAS step, each timed by itself, as shares of the step.

    At R with augmentation, and at the shape of the laptop profile, whose steps are short.
    """
    keep_freed_memory()
    laptop = configs_of("picture", "laptop")[ONE][0].replace(device=device)
    setups = {"R": setup_at(device=device, augment=True), "laptop": Search(laptop)}
    rows = []
    for name, setup in setups.items():
        batch, collected = setup.batch(), setup.statistics
        seen = setup.step(batch)

        def write(setup=setup):
            setup.history.write(1, setup.recorded())
            setup.statistics.write(setup.history, 1)

        steps = {
            "whole step": whole_step(setup),
            "statistics": partial(collected.update, "train", seen),
            "history": write,
            "data": setup.batch,
        }
        times = rounds(steps, max(count, 40), setup.device, f"bookkeeping, {name}")
        # The history is written once in an epoch; here an epoch of R has as many steps as CIFAR-10.
        per_epoch = setup.steps if name == "laptop" else 50_000 // BATCH
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
    setup = setup_at(device=device, framework="darts", recompute=recompute)
    if name.endswith("textbook"):
        baselines.textbook(setup)
    step = step_of(setup)
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
    setup = setup_at(device=device, framework=framework)
    if framework == "dsnas":
        names = ("sep_conv_3x3", "dil_conv_3x3", "max_pool_3x3", "sep_conv_5x5", "dil_conv_5x5")
        sample_only(setup, names)
    _step_here = step_of(setup)


def _step() -> None:
    _step_here()


def workers(device: str, count: int) -> dict:
    """Seeds that run at the same time against one after the other, on a GPU sharing the device.

    Of the searches alone, and of the whole sweep, which also starts the processes and waits for the
    longest search.
    """
    base = configs_of("picture", "laptop")[ONE][0].replace(device=device)
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
                setup = setup_at(framework=framework, device=device, **{**base, axis: value})
                if framework == "dsnas":
                    sample_only(setup, ("sep_conv_3x3",) * len(setup.space.edges))
                steps[str(value)] = step_of(setup)
                x.append(len(setup.space.edges) if axis == "nodes" else value)
            times = rounds(steps, count, setup.device, f"growth, {framework}, {axis}")
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
    """Steps after torch.compile, the time it takes, and after how many steps that is paid.

    Nothing that was compiled before is used again.
    """
    from torch._inductor.utils import fresh_cache  # takes a second, which no other case needs

    keep_freed_memory()
    rows = []
    for framework in ("darts", "dsnas"):
        at = {"device": device, "framework": framework, "size": 8, "channels": 8, "cells": 4}
        plain, name = setup_at(**at), framework.upper()
        steps = {name: step_of(plain), f"{name}, compiled": step_of(setup_at(compile=True, **at))}
        try:
            with fresh_cache():
                first = sum(seconds(steps[f"{name}, compiled"], plain.device) for _ in range(KINDS))
        except Exception as error:  # the compiler's, of any kind: the option does not work here
            rows.append({"step": name, "error": str(error).splitlines()[0][:200]})
            continue
        row = ratio(rounds(steps, count, plain.device, "compiled"), f"{name}, compiled", name)
        gained = row["baseline_seconds"] - row["seconds"]
        compiling = first - KINDS * row["seconds"]
        pays = round(compiling / gained) if gained > 0 else None
        rows.append({**row, "compiling_seconds": compiling, "pays_after": pays})
    return {"shape": "8x8, C = 8, 4 cells", "rows": rows}


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
