"""What a search needs is known before it starts."""

from types import SimpleNamespace

import pytest
import torch

from nascore import RunStore, search
from nascore.errors import ConfigError
from nascore.frameworks import FRAMEWORKS
from nascore.runs import History, resources
from nascore.runs.loop import Searcher
from nascore.runs.step import Learner

CPU = torch.device("cpu")


@pytest.fixture
def untouched(monkeypatch):
    monkeypatch.setattr(Searcher, "__init__", lambda *a: pytest.fail("it has begun"))


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_bytes_of_a_history_are_exact(name, tiny):
    config = tiny.replace(framework=name, nodes=3)
    extra = FRAMEWORKS[name].recorded
    arrays = History(config.space, epochs=config.epochs, cells=config.cells, extra=extra).arrays
    assert resources.history(config) == sum(array.nbytes for array in arrays.values())


def test_a_checkpoint_and_a_record_are_within_the_bound(tiny, tmp_path):
    store = RunStore(tmp_path)
    config = tiny.replace(channels=16, epochs=1)
    run = search(config, progress=False, checkpoint=store.checkpoint(config))
    size = store.checkpoint(config).stat().st_size
    record = run.save(tmp_path / "x.nc").stat().st_size
    assert 2 * size + record < resources.disk(config) + 2**18  # names and metadata come on top


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_bound_of_maps_is_above_what_is_measured(name, recompute, tiny):
    config = tiny.replace(framework=name, recompute=recompute, cells=3, nodes=3, image_size=12)
    measured = resources.measured_maps(config)
    assert measured < resources.needs(config)[resources.MAPS] < 8 * measured


def test_measured_maps_are_those_of_a_step_written_out(tiny):
    """One cell of one input and one node, with a skip alone: its maps are counted by hand."""
    skip = dict(nodes=1, inputs=1, operations=["skip_connect"], cells=1, channels=4)
    config = tiny.replace(framework="darts", norm="none", image_size=16, **skip)
    one = config.batch_size * 16 * 16 * 4 * 4  # bytes of a map of every example
    maps = resources.measured_maps(config) / one
    assert 3 + 0.75 <= maps <= 3 + 0.75 + 4  # stem's output of 12 channels, images of 3, the cell


def test_recompute_needs_less(tiny):
    config = tiny.replace(framework="darts", cells=8)
    assert resources.measured_maps(config.replace(recompute=True)) < (
        resources.measured_maps(config) / 2
    )


@pytest.mark.parametrize(
    "free, fields, message",
    [
        (2**20, {"channels": 512}, "for its weights; 0.00 GiB are free. Take fewer channels"),
        (2**20, {"image_size": 512}, "for its images; .*Take a smaller image_size"),
        (2**20, {"epochs": 10**6}, "for its history and checkpoint; .*Take fewer epochs"),
        (2**22, {"cells": 9}, "for its maps of a batch; .*Take recompute=True, a smaller batch"),
    ],
)
def test_too_little_memory_fails_before_any_work(
    tiny, monkeypatch, untouched, free, fields, message
):
    monkeypatch.setattr(resources, "available", lambda device: free)
    with pytest.raises(ConfigError, match=rf"needs .* GiB of memory.*{message}"):
        search(tiny.replace(**fields), progress=False)


def test_maps_are_measured_only_where_the_bound_is_near(tiny, monkeypatch):
    measured = []
    monkeypatch.setattr(resources, "measured_maps", lambda config: measured.append(config) or 1)
    bound = resources.needs(tiny)[resources.MAPS]
    for factor in (100, 2):
        monkeypatch.setattr(resources, "available", lambda device, f=factor: f * bound)
        resources.check(tiny)
    assert len(measured) == 1


def test_a_full_disk_fails_before_any_work(tiny, monkeypatch, untouched, tmp_path):
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(ConfigError, match=f"needs .* of disk in {tmp_path}.*Take fewer epochs"):
        search(tiny, progress=False, checkpoint=tmp_path / "new" / "x.checkpoint")


def test_no_search_on_the_meta_device(tiny, untouched):
    with pytest.raises(ConfigError, match="device='meta' holds no numbers"):
        search(tiny.replace(device="meta"), progress=False)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    if hasattr(torch, "OutOfMemoryError")
    else torch.cuda.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("MPS backend out of memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_memory_that_runs_out_in_a_search_is_named(tiny, monkeypatch, error):
    def step(*args, **named):
        raise error

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(MemoryError, match=r"ran out on cpu, with batch_size=32.*recompute=True"):
        search(tiny, progress=False)


def test_other_errors_stay_what_they_are(tiny, monkeypatch):
    def step(*args, **named):
        raise RuntimeError("something else")

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(RuntimeError, match="something else"):
        search(tiny, progress=False)


@pytest.mark.parametrize(
    "line, folder, names",
    [
        ("0::/jobs/7", "jobs", ("memory.max", "memory.current", "inactive_file")),
        ("0::/jobs/7", "jobs/7", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:memory:/jobs/7",
            "memory/jobs",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
)
def test_the_limit_of_a_container_or_a_job_counts(tmp_path, monkeypatch, line, folder, names):
    """Also one of a group above; the cache of files can be freed."""
    limit, used, inactive = names
    here = tmp_path / folder
    here.mkdir(parents=True)
    for name, text in {limit: "1000", used: "700", "memory.stat": f"{inactive} 50\n"}.items():
        (here / name).write_text(text)
    (tmp_path / "memory.max").write_text("max")
    (tmp_path / "cgroup").write_text(f"9:pids:/\n{line}\n")
    monkeypatch.setattr(resources, "CGROUPS", tmp_path)
    monkeypatch.setattr(resources, "PROC_CGROUP", tmp_path / "cgroup")
    assert resources.available(CPU) == 350


def test_without_limits_what_is_free_is_what_the_system_has(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "PROC_CGROUP", tmp_path / "none")
    assert 2**20 < resources.available(CPU) < 2**62
