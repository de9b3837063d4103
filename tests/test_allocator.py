import subprocess
import sys

import pytest

SCRIPT = """
import torch
from nascore.allocator import keep_freed_memory

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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_freed_memory_stays_only_if_it_is_to_be_kept():
    """What the process still holds after 200 MB were freed, measured in a process of its own."""
    held = {}
    for keep in (False, True):
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(keep=keep)],
            capture_output=True,
            text=True,
            check=True,
        )
        held[keep] = int(result.stdout)
    assert held[False] < 100e6
    assert held[True] > 150e6
