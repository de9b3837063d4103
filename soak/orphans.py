"""Orphans: when a sweep's process ends, by whatever signal, those that it started end, too."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from soak.kills import config, wrong_after
from soak.slow import TRACE
from soak.trials import Attack

ROOT = Path(__file__).parents[1]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SECONDS = 5.0  # that the processes may take to write their checkpoints, and to end

SCRIPT = """
import json, sys
from nascore import SearchConfig, sweep
from nascore.errors import Interrupted

if __name__ == "__main__":
    configs = [SearchConfig(**fields) for fields in json.loads(sys.argv[2])]
    try:
        sweep(configs, store=sys.argv[1], workers=2, progress=False)
    except Interrupted as stopped:
        sys.exit(str(stopped))
"""


def killed_sweep(number: int, chance: random.Random, folder: Path) -> tuple[int, list[str]]:
    """One sweep over four searches with two workers; its own process gets a signal."""
    signum = SIGNALS[number % len(SIGNALS)]
    trace, store = folder / "trace", folder / "store"
    trace.mkdir()
    configs = [config("soak.slow:Slow", epochs=40, seed=seed) for seed in range(4)]
    fields = json.dumps([c.model_dump(mode="json") for c in configs])
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with (folder / "output").open("wb") as output:
        parent = subprocess.Popen(
            [sys.executable, str(script), str(store), fields],
            env={**os.environ, "PYTHONPATH": paths, TRACE: str(trace)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    family = [psutil.Process(parent.pid)]
    try:
        if not _both_work(parent, trace):
            return 1, [f"its workers have not begun: {_said(folder)[-500:]}"]
        time.sleep(chance.uniform(0, 2))
        family += family[0].children(recursive=True)
        parent.send_signal(signum)
        left = _alive_after(family, parent, SECONDS)
        count = f"{len(left)} of {len(family)} processes"
        failures = [f"{count} run {SECONDS:.0f} s after {signum.name}"] if left else []
        if "Traceback" in (text := _said(folder)):
            failures.append(f"a traceback after {signum.name}: {text[-500:]}")
    finally:
        for process in family:
            if process.is_running():  # psutil knows a number that another process has got by now
                process.kill()
        parent.wait()
    wrong = [f"after {signum.name}: {line}" for line in wrong_after(configs, store)]
    return 1, failures + wrong


def _said(folder: Path) -> str:
    return (folder / "output").read_text(encoding="utf-8", errors="replace")


def _both_work(parent: subprocess.Popen, trace: Path) -> bool:
    """Waits until two processes have made a step; False if that does not happen."""
    end = time.monotonic() + 120
    while time.monotonic() < end and parent.poll() is None:
        if len(list(trace.iterdir())) == 2:
            return True
        time.sleep(0.05)
    return False


def _alive_after(
    family: list[psutil.Process], parent: subprocess.Popen, seconds: float
) -> list[psutil.Process]:
    """Which of these processes still run after so many seconds."""
    end, left = time.monotonic() + seconds, family
    while left and time.monotonic() < end:
        parent.poll()  # a child that has ended is a zombie until it is asked
        left = list(filter(_runs, left))
        time.sleep(0.02)
    return left


def _runs(process: psutil.Process) -> bool:
    """Whether a process has not ended: neither is it a zombie, nor does it just go."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def attacks(sweeps: int) -> list[Attack]:
    """So many sweeps, with SIGKILL, SIGTERM and Ctrl-C in turn."""
    return [Attack("processes left by a killed sweep", sweeps, killed_sweep)]
