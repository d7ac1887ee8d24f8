"""Measure the user's side: the start of the command line, a large values file, the samples without Kubernetes.

Writes bench/results/client.md. Needs the environments of `make try`.
"""

import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from measuring import CACHE, TOP, UV, run, written_by

RESULTS = TOP / "bench" / "results" / "client.md"
RUNS, SAMPLE_RUNS = 15, 3
LINES = 5000
SAMPLES = {"celery": "celery-add", "dask": "dask-mean", "spark": "spark-average-age"}


def measured(command: list[str], runs: int) -> tuple[float, float]:
    """Run a command often; return the medians of its seconds and of its CPU seconds.

    As with what pip installs, bytecode is there: one run before may write it.
    """
    seconds, cpu = [], []
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, cwd=TOP, check=True, capture_output=True, env=env)
    for _ in range(runs):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(command, cwd=TOP, check=True, capture_output=True, env=env)
        seconds.append(time.monotonic() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(seconds), statistics.median(cpu)


def environment(engine: str) -> Path:
    """Return where `make try` keeps an engine's environment."""
    return CACHE / f"try-{engine}" / "bin"


def values_file(folder: Path) -> Path:
    """Write a sound values file of `LINES` lines for the chart dask, comments and all."""
    lines = ["# Made to be long.", "replicas: 3", "env:"]
    for number in range((LINES - len(lines)) // 4):
        reference = f"      configMapKeyRef: {{name: a, key: k{number}}}"
        lines += [f"  # Variable {number}", f"  - name: NAME_{number}", "    valueFrom:", reference]
    lines += ["#"] * (LINES - len(lines))
    path = folder / "long.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def wheel_kilobytes(folder: Path) -> float:
    """Build the wheel, charts included; return its size."""
    run(UV, "build", "--wheel", "--quiet", "--out-dir", str(folder), "python")
    (wheel,) = folder.glob("trireme-*.whl")
    return wheel.stat().st_size / 1000


def main() -> None:
    """Measure, and write it down."""
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder))


def measure(folder: Path) -> None:
    """Measure, and write it down.

    Args:
        folder: for what is needed on the way.
    """
    run("make", "--no-print-directory", "try")
    written, load = written_by("python bench/client.py"), os.getloadavg()[0]
    where = environment("celery")
    starts = {
        "`python -c pass`": [str(where / "python"), "-c", "pass"],
        '`python -c "import trireme"`': [str(where / "python"), "-c", "import trireme"],
        "`trireme --help`": [str(where / "trireme"), "--help"],
        "`trireme run --help`": [str(where / "trireme"), "run", "--help"],
        f"`trireme values check`, {LINES} lines": [
            *(str(where / "trireme"), "values", "check", "dask", "-f"),
            str(values_file(folder)),
        ],
    }
    lines = ["| command | s | CPU s | times `python -c pass` (CPU) |", "| --- | --- | --- | --- |"]
    base = 0.0
    for what, command in starts.items():
        seconds, cpu = measured(command, RUNS)
        base = base or cpu
        lines.append(f"| {what} | {seconds:.3f} | {cpu:.3f} | {cpu / base:.1f} |")
    lines += ["", "| `trireme run --local -f` | s | CPU s |", "| --- | --- | --- |"]
    for engine, sample in SAMPLES.items():
        command = [str(environment(engine) / "trireme"), "run", "--local", "-f", f"manifests/samples/{sample}.yaml"]
        seconds, cpu = measured(command, SAMPLE_RUNS)
        lines.append(f"| {sample} | {seconds:.1f} | {cpu:.1f} |")
    RESULTS.write_text(
        f"# The user's side\n\n{written}; load average {load:.1f} at the beginning.\n"
        f"Medians of {RUNS} and {SAMPLE_RUNS} runs.\n\n"
        + "\n".join(lines)
        + f"\n\nThe wheel, charts included: {wheel_kilobytes(folder):.0f} kB.\n"
    )


if __name__ == "__main__":
    main()
