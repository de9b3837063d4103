"""Streams of random numbers: one for each purpose, so that one purpose never disturbs another."""

import hashlib

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


def gumbel(like: Tensor, generator: Generator | None) -> Tensor:
    """Independent standard Gumbel noise of the shape of ``like``.

    The argmax of log p + noise is a sample of p.
    """
    return -torch.empty_like(like).exponential_(generator=generator).log()
