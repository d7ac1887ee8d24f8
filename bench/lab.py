"""Measure the lab: `make cluster-up` cold, warm and on a cluster that stands, and what the idle cluster costs.

Writes bench/results/lab.md. With --cold everything that the lab ever built is removed first: its cache, its images,
the engine's build cache; Go's caches of the user are left alone and not used.
"""

import argparse
import re
import statistics
import sys
import tempfile
import threading
import time

from measuring import TOP, run, written_by

RESULTS = TOP / "bench" / "results" / "lab.md"
NODES = ("trireme-control-plane", "trireme-worker")
WARM_RUNS, UP_RUNS = 3, 5
SETTLE_SECONDS, IDLE_SECONDS = 60, 120


def timed(env: dict[str, str] | None = None) -> tuple[float, str]:
    """Bring the cluster up; return the seconds that it took and what it printed."""
    start = time.monotonic()
    printed = run("make", "--no-print-directory", "cluster-up", env=env)
    seconds = time.monotonic() - start
    print(printed, f"{seconds:.1f} s", flush=True)
    return seconds, printed


def forget() -> None:
    """Remove everything that the lab built."""
    run("make", "--no-print-directory", "cache-clean")
    images = run("docker", "image", "ls", "--format={{.Repository}}:{{.Tag}}", "trireme/*").split()
    if images:
        run("docker", "rmi", "--force", *images)
    run("docker", "builder", "prune", "--all", "--force")


def steps(printed: str) -> list[str]:
    """Return the rows of a table of the steps that were printed."""
    found = re.findall(r"(?m)^  (\S.*?) +([\d.]+) s  /", printed)
    return [f"| {name} | {seconds} |" for name, seconds in found]


def cpu_seconds(node: str) -> float:
    """Return the CPU time that a node has used so far, all its pods included."""
    script = (
        "if [ -e /sys/fs/cgroup/cpu.stat ]; then sed -n 's/^usage_usec //p' /sys/fs/cgroup/cpu.stat; "
        "else echo $(($(cat /sys/fs/cgroup/cpuacct/cpuacct.usage) / 1000)); fi"
    )
    return int(run("docker", "exec", node, "sh", "-c", script)) / 1e6


def mebibytes(node: str) -> float:
    """Return the memory that a node holds, without file cache that could be dropped: `docker stats`'s figure."""
    used = run("docker", "stats", "--no-stream", "--format={{.MemUsage}}", node).split("/")[0].strip()
    found = re.fullmatch(r"([\d.]+)([KMG])iB", used)
    assert found, used
    return float(found[1]) * {"K": 1 / 1024, "M": 1, "G": 1024}[found[2]]


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cold", action="store_true", help="measure a build from nothing, too")
    cold = parser.parse_args().cold
    written = written_by("make bench-lab")
    rows, cold_steps = [], []
    if cold:
        run("make", "--no-print-directory", "cluster-down", check=False)
        forget()
        with tempfile.TemporaryDirectory() as folder:
            seconds, printed = timed({"GOMODCACHE": f"{folder}/mod", "GOCACHE": f"{folder}/build"})
            # Go leaves its modules read-only.
            run("chmod", "--recursive", "u+w", folder)
        rows.append(f"| cold: nothing built, nothing downloaded | {seconds / 60:.1f} min | 15 min | 1 |")
        cold_steps = steps(printed)
    timed()
    warm = []
    for _ in range(WARM_RUNS):
        run("make", "--no-print-directory", "cluster-down")
        warm.append(timed()[0])
    rows.append(f"| warm: everything built, no cluster | {statistics.median(warm):.1f} s | 60 s | {WARM_RUNS} |")
    standing = [timed()[0] for _ in range(UP_RUNS)]
    rows.append(f"| the cluster stands | {statistics.median(standing):.1f} s | 3 s | {UP_RUNS} |")
    pause = threading.Event()
    pause.wait(SETTLE_SECONDS)
    before, start = sum(map(cpu_seconds, NODES)), time.monotonic()
    pause.wait(IDLE_SECONDS)
    share = (sum(map(cpu_seconds, NODES)) - before) / (time.monotonic() - start)
    memory = sum(map(mebibytes, NODES))
    rows.append(f"| idle: memory of both nodes | {memory / 1024:.2f} GiB | 1.2 GiB | 1 |")
    rows.append(f"| idle: CPU of both nodes over {IDLE_SECONDS} s | {share:.1%} of a core | 15 % | 1 |")
    lines = [
        "# The lab",
        "",
        f"{written}.",
        "Medians of whole runs of `make cluster-up`: operator, metrics-server and all images included.",
        "",
        "| what | measured | at most | runs |",
        "| --- | --- | --- | --- |",
        *rows,
    ]
    if cold_steps:
        lines += ["", "Steps of the cold run; some run side by side.", "", "| step | s |", "| --- | --- |", *cold_steps]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("\n".join(lines) + "\n")
    print(RESULTS.read_text())


if __name__ == "__main__":
    sys.exit(main())
