"""Times steps side by side, and reports ratios."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from tqdm import tqdm

Times = dict[str, list[float]]
"""Seconds of every step by name, one for each round."""


def seconds(step: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def rounds(steps: Mapping[str, Callable], count: int, device: torch.device, label: str) -> Times:
    """Runs every step once in a round, each round from another start, after one for warming up."""
    for step in steps.values():
        step()
    names = list(steps)
    times = {name: [] for name in names}
    for turn in tqdm(range(count), desc=label, unit="round"):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(seconds(steps[name], device))
    return times


def ratio(times: Times, step: str, baseline: str, goal: str = "") -> dict:
    """A row of the results: the median over rounds of step / baseline, with the middle half.

    Arguments:
        goal: such as "<= 1.05": what the ratio should be.
    """
    values = [a / b for a, b in zip(times[step], times[baseline], strict=True)]
    low, middle, high = statistics.quantiles(values, n=4)
    return {
        "step": step,
        "baseline": baseline,
        "ratio": middle,
        "low": low,
        "high": high,
        "goal": goal,
        "rounds": len(values),
        "seconds": statistics.median(times[step]),
        "baseline_seconds": statistics.median(times[baseline]),
    }


def exponent(x: list[float], y: list[float]) -> float:
    """The slope of log y on log x over the upper half of the points, where fixed costs are small.

    At least three points are used.
    """
    upper = slice(-max(3, (len(x) + 1) // 2), None)
    return float(np.polyfit(np.log(x[upper]), np.log(y[upper]), 1)[0])


@contextmanager
def process() -> Iterator[ProcessPoolExecutor]:
    """A fresh process that does one thing at a time."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor
