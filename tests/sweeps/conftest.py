"""What the tests of sweeps share: searches that leave a trace."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import nascore

MODULE = """
import os, signal, time, traceback
from pathlib import Path

from nascore.frameworks import DARTS

HERE = Path(__file__).parent


class Traced(DARTS):
    "DARTS that writes down which process makes which step, and may be slow, die or fail."

    seed: int = 0
    ends: str = ""

    def draw(self, context):
        rehearsed = any("rehears" in frame.name for frame in traceback.extract_stack())
        if rehearsed and self.ends != "fails":
            return super().draw(context)
        with open(HERE / "trace", "a") as trace:
            trace.write(f"{os.getpid()} {self.seed}\\n")
        time.sleep(float(os.environ.get("TRACED_SECONDS", 0)))
        if self.ends == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.ends == "killed once" and not (HERE / "killed").exists():
            (HERE / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.ends == "fails":
            raise IndexError("no such mask")
        return super().draw(context)
"""

SCRIPT = """
import json, sys
from nascore import SearchConfig, sweep

fields, arguments = json.loads(sys.argv[1])
sweep([SearchConfig(**f) for f in fields], progress=False, **arguments)
"""  # without if __name__ == "__main__"


@pytest.fixture
def traced(tiny, tmp_path, monkeypatch):
    """Searches that leave a trace: `config` makes one, `steps` counts them, `start` sweeps."""
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "traced_searches.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    paths = [folder, Path(nascore.__file__).parents[1]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    started = []

    def config(seed=0, **changes):
        options = {"seed": seed, "ends": changes.pop("ends", "")}
        framework = "traced_searches:Traced"
        return tiny.replace(seed=seed, framework=framework, framework_options=options, **changes)

    def trace():
        """(process, seed) of each step so far."""
        text = (folder / "trace").read_text(encoding="utf-8") if (folder / "trace").exists() else ""
        return [tuple(map(int, line.split())) for line in text.splitlines()]

    def start(configs, seconds=0.0, **arguments):
        """A sweep in a process of its own, whose steps take so many seconds longer."""
        given = json.dumps([[c.model_dump(mode="json") for c in configs], arguments], default=str)
        return command("-c", SCRIPT, given, seconds=seconds)

    def command(*words, seconds=0.0):
        """Python in a process and a group of its own."""
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=tmp_path,
            env=os.environ | {"TRACED_SECONDS": str(seconds)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        started.append(process)
        return process

    yield SimpleNamespace(config=config, trace=trace, start=start, command=command)
    sys.modules.pop("traced_searches", None)
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def wait_for():
    """Waits until something is true, and returns it; fails after a minute."""

    def wait(condition, seconds=60.0):
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.02)
        return value

    return wait


@pytest.fixture
def alive():
    """Those of some processes that still run: what has ended may be a zombie, or just go."""

    def runs(process):
        with suppress(psutil.NoSuchProcess):
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE

    return lambda processes: list(filter(runs, processes))
