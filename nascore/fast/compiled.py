"""Operations through torch.compile: each kind is compiled once, for every mask and every search."""

from collections.abc import Callable, Iterable
from functools import cache, partial
from types import FunctionType

import torch
from torch import nn


def compile_kinds(modules: Iterable[nn.Module]) -> None:
    """Has these modules compiled when they first run; those that are written alike share a kind."""
    for module in modules:
        module.forward = partial(_compiled(repr(module)), module)


def _call(module: nn.Module, *inputs):
    return type(module).forward(module, *inputs)


@cache
def _compiled(kind: str) -> Callable:
    """A function with a code object of its own, by which torch finds what it has compiled."""
    code = _call.__code__.replace(co_name=kind.partition("(")[0])
    return torch.compile(FunctionType(code, globals()), dynamic=False)
