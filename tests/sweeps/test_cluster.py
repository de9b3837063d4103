"""Sweeps on a Dask cluster: with workers that die and schedulers that are gone."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from nascore import RunStore, sweep
from nascore.errors import ConfigError, SweepError
from nascore.sweeps import workers

distributed = pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.slow,  # clusters are processes
    pytest.mark.filterwarnings("ignore"),  # dask's own
]
SLOW = 0.1  # seconds that a step takes longer


def same_as_here(runs):
    here = sweep([run.config for run in runs], workers=0, progress=False)
    pairs = zip(runs, here, strict=True)
    return all(
        one.history.drop_vars("seconds").identical(other.history.drop_vars("seconds"))
        for one, other in pairs
    )


def steps_here(traced):
    return sum(pid == os.getpid() for pid, _ in traced.trace())


@pytest.fixture
def cluster(traced, monkeypatch):
    """A cluster of two worker processes of one thread each; its searches are slow."""
    monkeypatch.setenv("TRACED_SECONDS", str(SLOW))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        monkeypatch.setenv("TRACED_SECONDS", "0")
        yield cluster


@pytest.fixture
def dask(traced):
    """Starts a part of a cluster on one port: "scheduler" or "worker"."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, started = f"tcp://127.0.0.1:{port}", []

    def start(part, *words):
        where = ["--host", "127.0.0.1", "--port", str(port)] if part == "scheduler" else [address]
        words = [sys.executable, "-m", "dask", part, *where, "--no-dashboard", *words]
        process = subprocess.Popen(
            words, env=os.environ | {"TRACED_SECONDS": str(SLOW)}, stderr=subprocess.DEVNULL
        )
        started.append(process)
        return process

    start.address = address
    yield start
    for process in started:
        family = [process]
        with suppress(psutil.NoSuchProcess):
            family += psutil.Process(process.pid).children(recursive=True)
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()


@pytest.mark.long
def test_on_a_cluster_no_folder_is_shared_and_the_bits_are_the_same(traced, cluster, tmp_path):
    """Slices are short here, so that every search goes there and back with its checkpoint."""
    configs = [traced.config(seed, epochs=6) for seed in range(2)]
    address, store = cluster.scheduler_address, RunStore(tmp_path / "store")
    runs = sweep(configs, store=store, scheduler=address, slice_seconds=2, progress=False)
    assert len({pid for pid, seed in traced.trace() if seed == 0}) > 1  # several slices
    steps = len(traced.trace())
    assert same_as_here(runs)
    assert len(traced.trace()) == 2 * steps  # no step was made twice
    assert sorted(path.suffix for path in store.folder.iterdir()) == [".nc"] * 2


@pytest.mark.long
def test_a_worker_that_is_killed_costs_a_slice(traced, cluster, tmp_path, wait_for, alive):
    configs = [traced.config(seed, epochs=6) for seed in range(2)]
    sweeping = traced.start(
        configs, scheduler=cluster.scheduler_address, slice_seconds=2, store=tmp_path
    )
    wait_for(lambda: list(tmp_path.glob("*.checkpoint")))

    def family():
        """A slice's process and its Dask worker; None if the slice has just ended."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(traced.trace()[-1][0])
            return process, process.parent()

    searching, worker = wait_for(family)
    worker.kill()
    wait_for(lambda: not alive([searching]))
    _, said = sweeping.communicate(timeout=600)
    assert sweeping.returncode == 0, said
    steps = len(traced.trace())
    assert same_as_here(sweep(configs, store=tmp_path, progress=False))
    assert steps < 2 * (len(traced.trace()) - steps)  # not everything was made again


@pytest.mark.long
def test_a_scheduler_that_is_gone_ends_the_sweep_which_goes_on_later(
    traced, dask, tmp_path, wait_for
):
    scheduler, _ = dask("scheduler"), dask("worker", "--no-nanny", "--nthreads", "2")
    configs = [traced.config(seed, epochs=6) for seed in range(2)]
    sweeping = traced.start(configs, scheduler=dask.address, slice_seconds=2, store=tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("*.checkpoint"))) == 2)
    scheduler.kill()
    said = sweeping.communicate(timeout=60)[1]
    assert f"the Dask scheduler at {dask.address} is gone. Run the same again" in said
    runs = sweep(configs, store=tmp_path, workers=0, progress=False)
    steps = steps_here(traced)
    assert same_as_here(runs)
    assert steps < steps_here(traced) - steps  # not everything was made again


@pytest.mark.long
def test_an_interrupted_client_goes_on_from_its_store(traced, cluster, tmp_path, wait_for):
    configs = [traced.config(seed, epochs=6) for seed in range(2)]
    sweeping = traced.start(
        configs, scheduler=cluster.scheduler_address, slice_seconds=2, store=tmp_path
    )
    wait_for(lambda: len(list(tmp_path.glob("*.checkpoint"))) == 2)
    sweeping.send_signal(signal.SIGINT)
    assert "Run the same again to go on" in sweeping.communicate(timeout=60)[1]
    runs = sweep(configs, store=tmp_path, workers=0, progress=False)  # here, this time
    steps = steps_here(traced)
    assert same_as_here(runs)
    assert steps < steps_here(traced) - steps  # not everything was made again


@pytest.mark.long
def test_failures_on_a_cluster_are_named_and_the_others_kept(traced, cluster, tmp_path):
    bad = [traced.config(1, ends="fails"), traced.config(2, ends="killed")]
    with pytest.raises(SweepError) as failures:
        sweep(
            [*bad, traced.config(0)],
            store=tmp_path,
            scheduler=cluster.scheduler_address,
            progress=False,
        )
    first, *lines = sorted(str(failures.value).splitlines(), key=len)
    assert first == "2 of 3 searches failed:" and len(lines) == 2
    assert any("IndexError: no such mask" in line for line in lines)
    assert any("its worker died twice" in line for line in lines)
    assert RunStore(tmp_path).get(traced.config(0)) is not None
    assert list(tmp_path.glob("*.lock")) == []
    assert [seed for _, seed in traced.trace() if seed].count(2) == 2


@pytest.mark.long
def test_searches_go_where_the_resources_are(traced, dask, tmp_path, wait_for):
    dask("scheduler")
    without = dask("worker", "--no-nanny", "--nthreads", "1")
    having = dask("worker", "--no-nanny", "--nthreads", "1", "--resources", "GPU=1")
    configs = [traced.config(seed, epochs=2) for seed in range(3)]
    sweeping = traced.start(
        configs, scheduler=dask.address, resources={"GPU": 1}, store=tmp_path / "store"
    )
    pid = wait_for(traced.trace)[0][0]
    assert psutil.Process(pid).ppid() == having.pid
    assert psutil.Process(without.pid).children() == []
    sweeping.communicate(timeout=600)
    assert sweeping.returncode == 0


@pytest.mark.parametrize(
    "offered, wanted, lack",
    [
        ({"GPU": 1}, {"GPU": 2}, "none of 1 Dask workers offers GPU=2"),
        ({}, {"GPU": 1, "disk": 0.5}, "none of 1 Dask workers offers GPU=1,disk=0.5"),
        (None, None, "there is no worker"),
        ({"GPU": 1}, {"GPU": 1}, None),
        ({}, None, None),
    ],
)
def test_what_no_worker_offers_is_said(monkeypatch, capfd, wait_for, offered, wanted, lack):
    monkeypatch.setattr(workers, "LONG_WAIT", 0.5)
    settings = {"processes": False, "protocol": "tcp", "dashboard_address": None}
    number = 0 if offered is None else 1
    with distributed.LocalCluster(n_workers=number, resources=offered, **settings) as local:
        address, said = local.scheduler_address, ""
        with workers.cluster(address, wanted, 300.0):
            if lack is None:
                time.sleep(2)
            else:
                said = wait_for(lambda: capfd.readouterr().err.strip())
    if lack is None:
        assert capfd.readouterr().err == ""
        return
    options = f" --resources {lack.split()[-1]}" if wanted else ""
    advice = f"Start one: dask worker {address}{options}"
    assert said == f"the searches wait: {lack}. {advice}"


@pytest.mark.parametrize(
    "address",
    [
        "nowhere",
        pytest.param("tcp://127.0.0.1:9", marks=pytest.mark.long),
        pytest.param("post://127.0.0.1:80", marks=pytest.mark.long),
    ],
)
def test_without_a_scheduler_the_process_stays_usable(tiny, tmp_path, address):
    with pytest.raises(ConfigError, match=f"scheduler='{address}': no Dask scheduler answers"):
        sweep([tiny], store=tmp_path, scheduler=address, progress=False)
    assert list(tmp_path.iterdir()) == []
    (run,) = sweep([tiny], store=tmp_path, workers=1, progress=False)
    assert run.config == tiny
