import subprocess
import sys

import pytest

SCRIPT = """
import torch
from nascore.fast.memory import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

keep_freed_memory() if {keep} else None
before = resident()
for _ in range(2):
    block = torch.ones(50_000_000)  # 200 MB
    del block
print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_freed_memory_stays_only_if_it_is_to_be_kept():
    """What the process still holds after 200 MB were freed, measured in a process of its own."""
    held = {}
    for keep in (False, True):
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(keep=keep)],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        held[keep] = int(result.stdout)
    assert held[False] < 100e6
    assert held[True] > 150e6


PEAK = """
import subprocess, sys
from nascore.fast.memory import peak_memory

before = peak_memory()
block = bytearray(200_000_000)
del block
print(before, peak_memory())
if len(sys.argv) == 1:
    subprocess.run([sys.executable, sys.argv[0], "child"], check=True)
"""


def test_peak_memory_is_the_processs_own(tmp_path):
    """It goes up by what was held at once, and a process started later begins low."""
    script = tmp_path / "peak.py"
    script.write_text(PEAK, encoding="utf-8")
    command = [sys.executable, str(script)]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    for line in result.stdout.splitlines():
        before, after = map(int, line.split())
        assert before < 150e6 and 190e6 < after - before < 250e6
    assert result.stdout.count("\n") == 2
