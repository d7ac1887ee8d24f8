"""Measure threads against processes for Dask: one worker of two CPUs beside two of one, in turn.

Writes bench/results/threads.md, on the cluster of `make cluster-up`.
"""

import statistics
from datetime import UTC, datetime

from measuring import machine, run
from memory import run_job, workers
from reconcile import RESULTS

ROUNDS = 3
SHAPES = {"one of 2 CPUs: 2 threads": (1, "2", "2Gi"), "two of 1 CPU: 2 processes": (2, "1", "1Gi")}
PROGRAM = """
import json, time
import numpy
from distributed import Client

def pure(_):
    total = 0
    for number in range(4_000_000):
        total += number * number % 7
    return total

def arrays(_):
    numbers = numpy.random.default_rng(0).random((900, 900))
    for _ in range(8):
        numbers = numbers @ numbers / 1000
    return float(numbers.sum())

with Client() as client:
    client.wait_for_workers(WORKERS)
    found = []
    for work in (pure, arrays):
        client.gather(client.map(work, range(4), pure=False))  # warm
        began = time.monotonic()
        client.gather(client.map(work, range(16), pure=False))
        found.append(time.monotonic() - began)
    print(json.dumps(found))
"""


def main() -> None:
    """Measure and write."""
    found: dict[str, list[list[float]]] = {name: [] for name in SHAPES}
    for _ in range(ROUNDS):
        for name, (count, cpu, memory) in SHAPES.items():
            program = PROGRAM.replace("WORKERS", str(count))
            found[name].append(run_job(program, **workers(count, cpu, memory)))
            print(name, found[name][-1], flush=True)
    medians = {name: [statistics.median(each) for each in zip(*rounds, strict=True)] for name, rounds in found.items()}
    first = next(iter(medians.values()))
    commit = run("git", "rev-parse", "--short", "HEAD").strip()
    lines = [
        "# Dask: two threads against two processes",
        "",
        f"Written by `bench/threads.py` on {datetime.now(UTC):%Y-%m-%d}, commit {commit}; {machine()}.",
        f"Medians of {ROUNDS} rounds in turn, of 16 tasks each. Limits are the same in all; a process is a pod.",
        "",
        "| workers | pure Python, s | ratio | NumPy, s | ratio |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {name} | {pure:.1f} | {pure / first[0]:.2f} | {arrays:.1f} | {arrays / first[1]:.2f} |"
            for name, (pure, arrays) in medians.items()
        ),
    ]
    (RESULTS / "threads.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
