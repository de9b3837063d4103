"""Is a search on this GPU right, repeatable and quick? Prints a table that can be sent as it is.

    make gpu-check        or: python benchmarks/gpu_check.py [--device cuda] [--only gradients]

Every row ends in "ok" or "WRONG"; a row without a bound ends in "-". The exit code is 0 only if
nothing is wrong. It takes about a quarter of an hour, and downloads nothing.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import torch
from baselines import plain_step
from torch import Tensor

from nascore import SearchConfig, search, sweep
from nascore.engine import Mask
from nascore.engine.space import Wiring
from nascore.errors import Interrupted
from nascore.evidence import ONE, configs_of
from nascore.frameworks import FRAMEWORKS
from nascore.runs import Search
from nascore.runs.provenance import Maker

Row = tuple[str, str, bool | None]
"""What was checked, what came out, whether that is right; None where there is no bound."""

COMPILED = ("dsnas", "darts", "snas")  # draws operations, mixes them, does both
TINY = dict(augment=False, channels=8, batch_size=48, train_examples=96, epochs=2)
SAME = 1e-8  # relative difference of float64 here and on the CPU
CLOSE = 1e-2  # of float32 and float64: a ReLU whose input is near 0 may open in one of them
ROUGH = 0.3  # of bfloat16 and float32
SYNCS = 1  # a discrete mask tells the host once which operations run


def difference(one: Tensor, other: Tensor) -> float:
    """The norm of the difference, as a share of the other's norm."""
    one, other = one.double().cpu(), other.double().cpu()
    return ((one - other).norm() / other.norm().clamp(min=1e-300)).item()


def moved(mask: Mask, device: torch.device, dtype: torch.dtype) -> Mask:
    """A mask on another device and in another precision, without its gradient."""
    tensors = {
        field.name: getattr(mask, field.name).detach().to(device, dtype)
        for field in dataclasses.fields(mask)
        if isinstance(getattr(mask, field.name), Tensor)
    }
    return dataclasses.replace(mask, **tensors)


def step(config: SearchConfig, device: str, dtype: torch.dtype, batch, mask: Mask):
    """The cost, and what one step changes in theta, from the same start on any device."""
    one = Search(config.replace(device=device), dtype=dtype)
    before = [p.detach().clone() for p in one.theta]
    (images, labels), z = batch, moved(mask, one.device, dtype)
    result = one.step((images.to(one.device, dtype), labels.to(one.device)), ["theta"], mask=z)
    change = [(p.detach() - b).flatten() for p, b in zip(one.theta, before, strict=True)]
    return result.cost, torch.cat(change)


def gradients(device: str) -> Iterator[Row]:
    """One step of every framework, on images of one and of three channels."""
    for framework in FRAMEWORKS:
        for dataset in ("digits", "synthetic"):
            config = SearchConfig(framework=framework, dataset=dataset, cells=2, **TINY)
            start = Search(config.replace(device="cpu"), dtype=torch.float64)
            batch, mask = start.batch(), start.draw()
            there = step(config, "cpu", torch.float64, batch, mask)
            exact = step(config, device, torch.float64, batch, mask)
            usual = step(config, device, torch.float32, batch, mask)
            for name, n in (("cost", 0), ("theta", 1)):
                what = f"{framework}, {dataset}, {name}"
                same, close = difference(exact[n], there[n]), difference(usual[n], exact[n])
                told = f"float64 {same:.0e} from the CPU, float32 {close:.0e} from float64"
                yield what, told, same <= SAME and close <= CLOSE


def equal(one, other) -> bool:
    """Whether two runs have the same bits, but for the time they took."""
    return one.history.drop_vars("seconds").equals(other.history.drop_vars("seconds"))


def bits(device: str) -> Iterator[Row]:
    """Two runs of one config, and one that was stopped and resumed, of every framework."""
    for framework in FRAMEWORKS:
        for level in ("single", "bi"):
            held_out = {"search_examples": 96} if level == "bi" else {}
            base = {"framework": framework, "level": level, "dataset": "digits", "cells": 2}
            config = SearchConfig(device=device, **base, **TINY, **held_out)
            first, second = (search(config, progress=False) for _ in range(2))
            with tempfile.TemporaryDirectory() as folder:
                path, asked = Path(folder) / "checkpoint", count()
                stop = partial(lambda n: next(n) > 2, asked)  # after the third step or so
                with suppress(Interrupted):
                    search(config, progress=False, checkpoint=path, stop=stop)
                third = search(config, progress=False, checkpoint=path)
            two, resumed = ("equal" if equal(first, run) else "differs" for run in (second, third))
            told, right = f"a second run {two}, a resumed one {resumed}", two == resumed == "equal"
            yield f"{framework}, {level}", told, right


def settings(device: str) -> Iterator[Row]:
    """What changes speed or memory changes theta's step by rounding alone."""
    for framework in ("dsnas", "darts"):
        plain = SearchConfig(framework=framework, dataset="synthetic", cells=2, **TINY)
        start = Search(plain.replace(device="cpu"), dtype=torch.float64)
        batch, mask = start.batch(), start.draw()
        _, expected = step(plain, device, torch.float32, batch, mask)
        for setting, limit in (
            ({"channels_last": True}, CLOSE),
            ({"channels_last": False}, CLOSE),
            ({"recompute": True}, CLOSE),
            ({"compile": True}, CLOSE),
            ({"amp": True}, ROUGH),
        ):
            _, found = step(plain.replace(**setting), device, torch.float32, batch, mask)
            off = difference(found, expected)
            (name, value), *_ = setting.items()
            yield f"{framework}, {name}={value}", f"{off:.0e} from without", off <= limit


def syncs(device: str) -> Iterator[Row]:
    """How often the host waits for the GPU in a step: three warm steps, then one that counts."""
    for framework in FRAMEWORKS:
        config = SearchConfig(framework=framework, dataset="digits", cells=2, device=device, **TINY)
        one = Search(config)
        one.epoch()
        batches = [one.batch() for _ in range(4)]
        for batch in batches[:3]:
            one.step(batch)
        if one.device.type != "cuda":
            yield framework, "no GPU: nothing to wait for", None
            continue
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                one.step(batches[3])
        finally:
            torch.cuda.set_sync_debug_mode("default")
        number = sum("synchron" in str(warning.message) for warning in caught)
        yield framework, f"the host waits {number} times in a step", number <= SYNCS


def together(device: str) -> Iterator[Row]:
    """Four searches one after the other, and four at once, on the same device."""
    base = SearchConfig(dataset="digits", cells=2, device=device, **TINY)
    configs = [base.replace(seed=seed) for seed in range(4)]
    found, seconds = [], []
    for workers in (0, 4):
        start = time.perf_counter()
        found.append(sweep(configs, workers=workers, progress=False))
        seconds.append(time.perf_counter() - start)
    same = all(equal(one, other) for one, other in zip(*found, strict=True))
    told = f"{seconds[0]:.0f} s in turn, {seconds[1]:.0f} s at once (processes included)"
    yield "four searches", f"{told}, bits {'equal' if same else 'differ'}", same or None


def speed(device: str, steps: int = 30, **smaller) -> Iterator[Row]:
    """A step at the authors' shape, beside a plain network and the bytes that must move."""
    authors = configs_of("picture", "paper", seeds=1, arms=[ONE])[ONE][0].replace(**smaller)
    total, batch_size = authors.steps, authors.batch_size
    shape = dict(dataset="synthetic", image_size=32, train_examples=batch_size, augment=False)
    authors = authors.replace(device=device, **shape)
    one = Search(authors)
    wiring = Wiring(one.space, ("sep_conv_3x3",) * len(one.space.edges))
    plain = seconds_of(plain_step(wiring, one, one.batch()), one.device, steps)
    yield "a plain network", f"{1000 * plain:.1f} ms a step, sep_conv_3x3 on every edge", None
    copied = bandwidth(one.device)
    for framework in FRAMEWORKS:
        config = authors.replace(framework=framework)
        least = moved_bytes(config, steps) / copied
        for compiled in (False, True) if framework in COMPILED else (False,):
            one = Search(config.replace(compile=compiled))
            batch = one.batch()
            each = seconds_of(lambda one=one, batch=batch: one.step(batch), one.device, steps)
            told = f"{1000 * each:.1f} ms a step, {each / plain:.1f} of the plain network's, "
            told += f"{each / least:.1f} of what must move; {each * total / 3600:.1f} h in all"
            yield f"{framework}{', compiled' * compiled}", told, None


def seconds_of(step: Callable[[], object], device: torch.device, steps: int) -> float:
    """Mean time of a step, after some that warm up and compile."""
    for _ in range(max(2, steps // 3)):
        step()
    _wait(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    return (time.perf_counter() - start) / steps


def moved_bytes(config: SearchConfig, steps: int) -> float:
    """Bytes that a step reads and writes if ReLUs and weights are free: what enters and leaves each
    convolution, pool and norm, once forwards and, with gradients beside, twice backwards. It is the
    mean over steps, whose masks differ."""
    total = 0

    def count_bytes(module, inputs, output):
        nonlocal total
        total += 3 * sum(x.numel() * x.element_size() for x in (inputs[0], output))

    kinds = torch.nn.Conv2d | torch.nn.MaxPool2d | torch.nn.AvgPool2d | torch.nn.BatchNorm2d
    one = Search(config)
    modules = [module for module in one.supernet.modules() if isinstance(module, kinds)]
    for module in modules:
        module.register_forward_hook(count_bytes)
    batch = one.batch()
    for _ in range(steps):
        one.step(batch)
    return total / steps


def bandwidth(device: torch.device, size: int = 2**28) -> float:
    """Bytes a second that a copy on the device reads and writes."""
    x, y = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * size / seconds_of(lambda: y.copy_(x), device, 10)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


CHECKS: dict[str, Callable[[str], Iterator[Row]]] = {
    check.__name__: check for check in (gradients, bits, settings, syncs, together, speed)
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1; cpu to try the script")
    parser.add_argument("--only", action="append", choices=CHECKS, help="a check; repeatable")
    given = parser.parse_args(arguments)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {given.device}: torch sees no GPU here")
    (machine,) = Maker(torch.device(given.device)).parts()
    for name in ("nascore", "commit", "torch", "python", "system", "device"):
        print(f"{name}: {machine[name]}")
    print(f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    wrong = 0
    for name in given.only or CHECKS:
        check = CHECKS[name]
        print(f"\n{name}: {check.__doc__.splitlines()[0]}", flush=True)
        for what, told, right in check(given.device):
            wrong += right is False
            end = {True: "ok", False: "WRONG", None: "-"}[right]
            print(f"  {what:40} {told:70} {end}", flush=True)
    print(f"\n{wrong} of the rows are wrong." if wrong else "\nNothing is wrong.")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
