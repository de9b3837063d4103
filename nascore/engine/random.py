"""Streams of random numbers: one for each purpose, so that one purpose never disturbs another."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import numpy as np
import torch
from torch import Generator, Tensor


def stream_seed(seed: int, purpose: str) -> int:
    """The seed of one purpose's stream, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def stream(seed: int, purpose: str, device: torch.device | str = "cpu") -> Generator | None:
    """The generator of one purpose on a device. The meta device has none: it holds no numbers."""
    if torch.device(device).type == "meta":
        return None
    return Generator(device).manual_seed(stream_seed(seed, purpose))


_GLOBAL = RLock()  # searches may share a process


@contextmanager
def own_global_randomness() -> Iterator[None]:
    """While open, the global streams are ours; then the caller's go on where they were."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    with _GLOBAL, torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def seed_global_randomness(seed: int, purpose: str) -> None:
    """Seeds the global streams of torch, numpy and Python, for code that asks no generator."""
    number = stream_seed(seed, purpose)
    torch.manual_seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002
    random.seed(number)


def gumbel(like: Tensor, generator: Generator | None) -> Tensor:
    """Independent standard Gumbel noise of the shape of ``like``.

    The argmax of log p + noise is a sample of p.
    """
    return -torch.empty_like(like).exponential_(generator=generator).log()
