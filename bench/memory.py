"""Measure what spilling costs: the sample's 2.4 GB on two workers, with a third of that memory and with all of it.

Writes bench/results/spill.md. Rounds of the two in turn, on the cluster of `make cluster-up`.
"""

import argparse
import json
import statistics
from dataclasses import dataclass
from typing import Any

import yaml
from measuring import TOP, written_by
from reconcile import RESULTS, Cluster, Object, is_true, until

ROUNDS = 3
MEMORIES = {"a third": "384Mi", "enough": "3Gi"}
PROGRAM = """
import json, os, time
import dask.array as da
from distributed import Client, wait

def written(dask_worker):
    return dask_worker.data.cumulative_metrics["disk-write", "bytes"]

def read(dask_worker):
    return dask_worker.data.cumulative_metrics["disk-read", "bytes"]

with Client() as client:
    client.wait_for_workers(2)
    before = client.run(os.getpid)
    da.ones((1000, 1000)).sum().compute()  # imports NumPy everywhere
    memory = sum(worker["memory_limit"] for worker in client.scheduler_info()["workers"].values())
    began = time.monotonic()
    numbers = da.random.random((300, 1_000_000), chunks=(1, 1_000_000)).persist()
    wait(numbers)
    held = time.monotonic()
    numbers.mean().compute()
    done = time.monotonic()
    assert client.run(os.getpid) == before, "a worker was killed"
    counts = [sum(client.run(count).values()) for count in (written, read)]
    print(json.dumps([numbers.nbytes, memory, *counts, held - began, done - held]))
"""


@dataclass(frozen=True)
class Round:
    """What one run says of itself: bytes, and seconds."""

    data: float
    memory: float
    written: float
    read: float
    making: float
    using: float


def run_job(program: str, **cluster: Any) -> list[float]:
    """Run a program with the sample's cluster, changed as told; return what it printed last."""
    (job,) = yaml.safe_load_all((TOP / "manifests" / "samples" / "dask" / "spill.yaml").read_text())
    job["spec"]["driver"]["script"] = program
    job["spec"]["clusterTemplate"]["spec"] |= cluster
    namespace = Cluster()
    try:
        namespace.apply(job)

        def job_now() -> Object:
            return namespace.get("WorkerJob", "spill")

        until(lambda: is_true(job_now(), "Complete") or is_true(job_now(), "Failed"), 600)
        found: list[float] = json.loads(job_now()["status"]["output"].splitlines()[-1])
        return found
    finally:
        namespace.end()


def workers(count: int, cpu: str, memory: str) -> Object:
    """Return the fields of a cluster with so many workers of a size."""
    return {"replicas": count, "resources": {"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": "50m"}}}


def row(name: str, memory: str, rounds: list[Round], against: list[Round]) -> str:
    """Return a line of the table: medians, and ratios to the other's."""

    def median(of: list[Round], what: str) -> float:
        return statistics.median(getattr(one, what) for one in of)

    first = rounds[0]
    ratios = [f"{median(rounds, what) / median(against, what):.1f}" for what in ("making", "using")]
    cells: list[Any] = [
        name,
        f"2 x {memory}",
        f"{first.data / first.memory:.1f}",
        f"{median(rounds, 'written') / 1e9:.1f}",
        f"{median(rounds, 'read') / 1e9:.1f}",
        f"{median(rounds, 'making'):.1f}",
        ratios[0],
        f"{median(rounds, 'using'):.1f}",
        ratios[1],
    ]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    written = written_by("bench/memory.py")
    found: dict[str, list[Round]] = {name: [] for name in MEMORIES}
    for _ in range(rounds):
        for name, memory in MEMORIES.items():
            found[name].append(Round(*run_job(PROGRAM, **workers(2, "1", memory))))
            print(name, found[name][-1], flush=True)
    lines = [
        "# 2.4 GB of Dask results, with less memory than that and with enough",
        "",
        f"{written}.",
        f"Medians of {rounds} rounds in turn. 300 chunks of 8 MB are made and kept, then their mean is taken; bytes",
        "are the workers' own counts. No worker was killed in any round.",
        "",
        "| memory | workers | data to memory | spilled, GB | read back, GB | making, s | ratio | mean, s | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(row(name, memory, found[name], found["enough"]) for name, memory in MEMORIES.items()),
    ]
    (RESULTS / "spill.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
