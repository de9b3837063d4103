"""Measures what a search step costs, side by side with named baselines.

    python benchmarks/run.py [--device cuda] [--rounds 20] [--only dense --only memory]

Writes benchmarks/results/<device>.json, case by case: what is measured again replaces what was
there. The chapter "What a step costs" reads it. One torch thread; nothing else should run beside.
"""

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that measure, too

import torch
from cases import CASES
from measure import process

from nascore.runs.provenance import Maker

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    parser.add_argument("--rounds", type=int, default=20, help="steps of each kind, at least 2")
    parser.add_argument("--only", action="append", choices=CASES, help="a case; repeatable")
    parser.add_argument("--out", type=Path, help="file of the results")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error(f"--rounds {arguments.rounds}: quartiles need at least 2")
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device {arguments.device}: torch sees no GPU here")
    path = arguments.out or RESULTS / f"{device.type}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_bytes()) if path.exists() else {}
    here = machine(device)  # before the results change the checkout
    for name in arguments.only or CASES:
        started, begin = datetime.now(UTC), time.perf_counter()
        with process() as one:  # its memory goes back to the system with it
            found = one.submit(CASES[name], arguments.device, arguments.rounds).result()
        results[name] = {
            "question": CASES[name].__doc__.splitlines()[0],
            **found,
            "made": {
                "started": started.isoformat(timespec="minutes"),
                "minutes": round((time.perf_counter() - begin) / 60, 1),
                "rounds": arguments.rounds,
                **here,
            },
        }
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        for row in found.get("rows", []):
            print({key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()})
    print(f"written to {path}", file=sys.stderr)


def machine(device: torch.device) -> dict:
    """The device, and the versions of what runs on it."""
    (known,) = Maker(device).parts()
    wanted = ("nascore", "commit", "torch", "python", "system", "device")
    return {**{name: known[name] for name in wanted}, "cores": os.cpu_count()}


if __name__ == "__main__":
    main()
