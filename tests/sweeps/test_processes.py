"""Sweeps in worker processes: whatever is killed, nothing is lost, done twice or left behind."""

import json
import os
import signal
import time

import psutil
import pytest
from jupyter_client.manager import start_new_kernel

from nascore import RunStore, sweep
from nascore.errors import SweepError

pytestmark = pytest.mark.slow  # each sweep starts processes
SLOW = 0.1  # seconds that a step takes longer, in processes that are to be killed


def histories(runs):
    return [run.history.drop_vars("seconds") for run in runs]


def steps_of(traced, seed):
    return [pid for pid, of in traced.trace() if of == seed]


def workers_of(parent):
    """Its processes, without those in which Python watches what they leave behind."""
    children = psutil.Process(parent.pid).children()
    return [child for child in children if "loky.backend.popen_loky_posix" in child.cmdline()]


LONG = pytest.mark.long


@LONG
@pytest.mark.parametrize("when", ["importing", "searching"])
def test_workers_die_with_their_parent(traced, tmp_path, wait_for, alive, when):
    parent = traced.start(
        [traced.config(n, epochs=500) for n in (0, 1)], SLOW, workers=2, store=tmp_path
    )
    workers = wait_for(lambda: len(workers_of(parent)) == 2 and workers_of(parent))
    if when == "searching":
        wait_for(lambda: len({pid for pid, _ in traced.trace()}) == 2)
    parent.kill()
    wait_for(lambda: not alive(workers))  # within 5 s, as `make soak` measures
    if when == "importing":
        assert not traced.trace()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@LONG
def test_a_sweep_that_is_told_to_stop_goes_on_later(traced, tmp_path, wait_for, alive, name):
    configs = [traced.config(n, epochs=6) for n in range(3)]
    parent = traced.start(configs, SLOW, workers=2, store=tmp_path)
    wait_for(lambda: min(len(steps_of(traced, 0)), len(steps_of(traced, 1))) > 5)
    workers = workers_of(parent)
    if name == "SIGINT":  # from the terminal, for the whole group
        os.killpg(parent.pid, signal.SIGINT)
    else:
        parent.terminate()
    _, said = parent.communicate(timeout=60)  # 5 s, as `make soak` measures
    assert not alive(workers)
    last = said.strip().splitlines()[-1]
    assert "interrupted with 0 of 3 searches done. Run the same again to go on" in last
    assert str(tmp_path) in last
    assert not steps_of(traced, 2)  # nothing new was begun
    store, before = RunStore(tmp_path), len(traced.trace())
    assert all(store.checkpoint(config).exists() for config in configs[:2])
    runs = sweep(configs, store=store, workers=0, progress=False)
    after, undisturbed = len(traced.trace()) - before, sweep(configs, workers=0, progress=False)
    for one, other in zip(histories(runs), histories(undisturbed), strict=True):
        assert one.identical(other)
    whole = len(traced.trace()) - before - after
    assert after < whole  # it went on, instead of beginning anew
    assert sorted(path.suffix for path in tmp_path.glob("*-seed*")) == [".nc"] * 3


@LONG
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_command_is_one_line(traced, tmp_path, wait_for, name, workers):
    words = ["sweep", "picture", "--profile", "laptop", "--seeds", 1, "--workers", workers]
    process = traced.command("-m", "nascore", *words, "--store", tmp_path / "store")
    wait_for(lambda: list(tmp_path.glob("store/*.lock")))  # it searches
    process.send_signal(getattr(signal, name))
    out, said = process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signal, name)
    lines = [line for line in said.splitlines() if not line.startswith(("searches:", "\r"))]
    assert out == "" and len([line for line in lines if line.strip()]) == 1
    assert "interrupted with 0 of 4 searches done. Run the same again" in lines[-1]


@LONG
@pytest.mark.filterwarnings("ignore")  # the kernel's own
def test_a_notebooks_interrupt_stops_a_sweep(traced, tmp_path, wait_for, alive, monkeypatch):
    """As of the stop button of Jupyter; the kernel stays, and its next cell goes on."""
    monkeypatch.setenv("TRACED_SECONDS", str(SLOW))
    configs = [traced.config(n, epochs=3) for n in (0, 1)]
    given = json.dumps([c.model_dump(mode="json") for c in configs])
    code = f"""
import json
from nascore import SearchConfig, sweep
configs = [SearchConfig(**fields) for fields in json.loads({given!r})]
runs = sweep(configs, store={str(tmp_path)!r}, workers=2, progress=False)
"""
    manager, client = start_new_kernel()
    try:
        client.execute(code)
        wait_for(lambda: len({pid for pid, _ in traced.trace()}) == 2)
        workers = [psutil.Process(pid) for pid in {pid for pid, _ in traced.trace()}]
        manager.interrupt_kernel()
        said = client.get_shell_msg(timeout=60)["content"]
        assert said["ename"] == "Interrupted" and "Run the same again to go on" in said["evalue"]
        assert not alive(workers)
        client.execute(code)
        assert client.get_shell_msg(timeout=60)["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert len(list(tmp_path.glob("*.nc"))) == 2


@LONG
def test_a_second_ctrl_c_does_not_wait(traced, tmp_path, wait_for, alive):
    """Here the worker is stopped, and could not even be asked."""
    parent = traced.start([traced.config(epochs=500)], SLOW, workers=1, store=tmp_path)
    wait_for(traced.trace)
    (worker,) = workers_of(parent)
    worker.suspend()
    parent.send_signal(signal.SIGINT)
    time.sleep(0.5)
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=60)
    wait_for(lambda: not alive([worker]), seconds=10)


@LONG
def test_a_worker_that_is_killed_is_replaced(traced, tmp_path, wait_for, capfd):
    configs = [traced.config(n, epochs=10) for n in (0, 1)]
    parent = traced.start(configs, SLOW, workers=2, store=tmp_path)
    victim = wait_for(lambda: steps_of(traced, 0)[5:])[0]
    os.kill(victim, signal.SIGKILL)
    _, said = parent.communicate(timeout=60)
    assert parent.returncode == 0
    assert f"seed0-{configs[0].hash}: its worker died; another one goes on" in said
    assert len(set(steps_of(traced, 0))) == 2 and len(set(steps_of(traced, 1))) == 1
    runs = sweep(configs, store=tmp_path, progress=False)
    for one, other in zip(
        histories(runs), histories(sweep(configs, workers=0, progress=False)), strict=True
    ):
        assert one.identical(other)


@LONG
def test_a_search_whose_worker_always_dies_is_one_failed_run(traced, tmp_path):
    bad = traced.config(1, ends="killed")
    good = [traced.config(seed) for seed in (0, 2, 3)]
    with pytest.raises(SweepError, match=r"1 of 4 searches failed:\n.*-seed1-.*: its worker"):
        sweep([good[0], bad, *good[1:]], store=tmp_path, workers=2, progress=False)
    assert len(list(tmp_path.glob("*.nc"))) == 3
    assert len(steps_of(traced, 1)) == 2  # it was tried twice


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=LONG)])
def test_every_failed_search_is_named_and_none_is_tried_twice(traced, tmp_path, capsys, workers):
    bad = [traced.config(seed, ends="fails") for seed in (1, 2)]
    other = traced.config(3, device="cuda:99")
    with pytest.raises(SweepError) as all_of_them:
        sweep([*bad, other, traced.config(0)], store=tmp_path, workers=workers, progress=False)
    first, *lines = str(all_of_them.value).splitlines()
    assert first == "3 of 4 searches failed:" and len(lines) == 2
    (same,) = [line for line in lines if "IndexError: no such mask" in line]
    assert all(config.hash in same for config in bad)
    assert sum("cuda:99" in line and other.hash in line for line in lines) == 1
    assert RunStore(tmp_path).get(traced.config(0)) is not None
    assert len(steps_of(traced, 1)) == len(steps_of(traced, 2)) == 1


@LONG
def test_two_sweeps_on_one_store_share_the_work(traced, tmp_path):
    configs = [traced.config(seed) for seed in range(4)]
    both = [traced.start(order, SLOW, store=tmp_path, workers=1) for order in (configs, configs)]
    for process in both:
        process.communicate(timeout=300)
        assert process.returncode == 0
    assert len({pid for pid, _ in traced.trace()}) == 2  # each did some of it
    for seed in range(4):
        assert len(set(steps_of(traced, seed))) == 1
    sweep(configs[:1], workers=0, progress=False)
    assert len(steps_of(traced, 1)) * 2 == len(steps_of(traced, 0))
    assert len(list(tmp_path.glob("*.lock"))) == 0


@LONG
def test_who_is_left_takes_over(traced, tmp_path, wait_for):
    config = traced.config(epochs=20)
    first = traced.start([config], SLOW, store=tmp_path)
    wait_for(traced.trace)
    second = traced.start([config], store=tmp_path, workers=0)
    with pytest.raises(AssertionError):  # it waits
        wait_for(lambda: len(set(steps_of(traced, 0))) == 2, seconds=1)
    first.kill()
    second.communicate(timeout=60)
    assert second.returncode == 0 and RunStore(tmp_path).get(config) is not None
    assert list(tmp_path.glob("*.lock")) == []


@LONG
def test_two_search_commands_share_the_work(traced, tmp_path, wait_for):
    words = ["-m", "nascore", "search", "--dataset", "synthetic", "--train-examples", 96]
    words += ["--no-augment", "--cells", 1, "--channels", 4, "--batch-size", 32, "--epochs", 2]
    words += ["--framework", "traced_searches:Traced"]
    both = [traced.command(*words, "--store", "store", "--quiet", seconds=SLOW) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert said[0] == said[1] != ""
    assert len({pid for pid, _ in traced.trace()}) == 1


def test_a_module_that_sweeps_when_it_is_imported(tiny, tmp_path, monkeypatch):
    """Without if __name__ == "__main__", each worker would start a sweep of its own."""
    (tmp_path / "sweeping_module.py").write_text(
        "from nascore import SearchConfig, sweep\n"
        "from nascore.frameworks import DARTS\n"
        "class Mine(DARTS): pass\n"
        "import sys\n"
        "if 'pytest' not in sys.modules: sweep([SearchConfig(dataset='synthetic')], workers=2)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = tiny.replace(framework="sweeping_module:Mine")
    with pytest.raises(SweepError, match='under if __name__ == "__main__"'):
        sweep([config], workers=1, progress=False)
