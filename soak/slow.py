"""A framework for sweeps that are killed: it takes its time, and says who is at work."""

import os
import time
from pathlib import Path

from nascore.frameworks import DSNAS

TRACE = "NASCORE_SOAK_TRACE"  # a folder, in the environment


class Slow(DSNAS):
    """DSNAS. If there is a trace, a step takes longer and leaves its process's number there."""

    def draw(self, context):
        if TRACE in os.environ:
            (Path(os.environ[TRACE]) / str(os.getpid())).touch()
            time.sleep(0.1)
        return super().draw(context)
