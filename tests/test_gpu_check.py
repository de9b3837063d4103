"""The check for owners of a GPU: its own code on a CPU, and all of it where there is a GPU."""

from pathlib import Path

import pytest
import torch

from nascore import SearchConfig

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def gpu_check(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import gpu_check

    return gpu_check


def test_what_it_says_on_a_cpu(gpu_check, capsys, monkeypatch):
    monkeypatch.setattr(gpu_check, "FRAMEWORKS", ["dsnas", "darts"])
    words = ["--device", "cpu", "--only", "gradients", "--only", "syncs"]
    assert gpu_check.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith(" ok") for line in lines) == 8 and lines[-1] == "Nothing is wrong."


def test_wrong_gradients_are_found(gpu_check, capsys, monkeypatch):
    """In float32 alone, as on a GPU whose kernels are at fault."""
    monkeypatch.setattr(gpu_check, "FRAMEWORKS", ["dsnas"])
    exact = gpu_check.step

    def broken(config, device, dtype, batch, mask):
        cost, change = exact(config, device, dtype, batch, mask)
        return cost, change * (1.02 if dtype == torch.float32 else 1)

    monkeypatch.setattr(gpu_check, "step", broken)
    assert gpu_check.main(["--device", "cpu", "--only", "gradients"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines if line.endswith("WRONG")] == ["theta", "theta"]
    assert lines[-1] == "2 of the rows are wrong."


@pytest.mark.slow
def test_bits_are_compared(gpu_check, capsys, monkeypatch):
    monkeypatch.setattr(gpu_check, "FRAMEWORKS", ["dsnas"])
    assert gpu_check.main(["--device", "cpu", "--only", "bits"]) == 0
    monkeypatch.setattr(gpu_check, "equal", lambda one, other: False)
    assert gpu_check.main(["--device", "cpu", "--only", "bits"]) == 1


def test_speed_stands_beside_a_plain_network_and_what_must_move(gpu_check, monkeypatch):
    monkeypatch.setattr(gpu_check, "FRAMEWORKS", ["dsnas", "gdas"])
    monkeypatch.setattr(torch, "compile", lambda function, **how: function)
    small = dict(cells=1, channels=4, batch_size=8)
    rows = [row for row, *_ in gpu_check.speed("cpu", steps=2, **small)]
    assert rows == ["a plain network", "dsnas", "dsnas, compiled", "gdas"]

    pools = dict(operations=("max_pool_3x3",), dataset="synthetic", train_examples=8)
    config = SearchConfig(augment=False, **pools, **small)
    stem, inputs, edges = (3 + 12) + (12 + 12), 2 * ((12 + 4) + (4 + 4)), 5 * ((4 + 4) + (4 + 4))
    places, forwards_and_backwards, float32 = 8 * 8 * 8, 3, 4
    values = places * (stem + inputs + edges)
    assert gpu_check.moved_bytes(config, 2) == forwards_and_backwards * float32 * values


@pytest.mark.long
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("check", ["gradients", "bits", "settings", "syncs", "together", "speed"])
def test_nothing_is_wrong_on_a_gpu(gpu_check, check):
    """With CUDA_VISIBLE_DEVICES=0, for tests hide a GPU by default."""
    assert gpu_check.main(["--only", check]) == 0
