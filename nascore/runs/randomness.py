"""The global streams of random numbers, for code that asks no generator, as in a plug-in."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import numpy as np
import torch

from nascore.engine.random import stream_seed

_GLOBAL = RLock()  # searches may share a process


@contextmanager
def own_global_randomness() -> Iterator[None]:
    """While open, the CPU's global streams are ours; then the caller's go on where they were."""
    with _GLOBAL, torch.random.fork_rng(devices=[]):
        before = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def seed_global_randomness(seed: int, purpose: str) -> None:
    """Seeds the global streams of torch, numpy and Python, for code that asks no generator."""
    number = stream_seed(seed, purpose)
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():  # torch.manual_seed takes a trace a step where it is not
        torch.cuda.manual_seed_all(number)
    np.random.seed(number % 2**32)  # noqa: NPY002
    random.seed(number)
