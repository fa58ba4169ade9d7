"""Speed and memory of `cellfluxrl prepare` on fields of 1,280 x 1,024 px and three stains.

    OMP_NUM_THREADS=1 python -m tests.bench.bench_prepare [WORKERS [SITES]]

Draws 8 wells of SITES fields (default 3), prepares them with WORKERS processes (default 2) as a user would, and prints
fields a second, processor time, and the largest sum of the memory of all processes, in which memory that processes
share counts once. The nuclei's size is given, so that every field is segmented once.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cellenv.data.synthetic_plates import write_plates

ROOT = Path(__file__).parents[2]


def children(parent: int) -> set[int]:
    """The process and its descendants."""
    found = {parent}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int((process / "stat").read_text().rpartition(")")[2].split()[1]) in found:
                found |= children(int(process.name))
        except (OSError, IndexError):
            continue
    return found


def shared_memory(processes: set[int]) -> float:
    """Proportional set size of the processes together, MiB."""
    total = 0
    for process in processes:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def main(workers: int, sites: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        fields, out = Path(place) / "fields", Path(place) / "cells"
        write_plates(fields, compounds=("taxol", "etoposide"), plates=1, controls=4, replicates=2, sites=sites)
        command = [sys.executable, "-m", "algorithms.cli", "prepare", str(fields), "--out", str(out)]
        command += ["--embeddings", "emb_synthetic.csv", "--nucleus-diameter", "36", "--workers", str(workers)]
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT)
        peak, count = 0.0, 8 * sites
        while process.poll() is None:
            peak = max(peak, shared_memory(children(process.pid)))
            time.sleep(0.5)
        seconds, used = time.perf_counter() - start, os.times()
        if process.returncode:
            raise RuntimeError(f"the command failed with status {process.returncode}")
        cpu = used.children_user + used.children_system
        print(f"{count} fields, {workers} processes: {seconds:.1f} s, {count / seconds:.2f} fields a second")
        print(f"processor time {cpu:.1f} s, {cpu / count:.2f} s a field, imports included; peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    main(*(int(argument) for argument in [*sys.argv[1:], *["2", "3"][len(sys.argv) - 1 :]]))
