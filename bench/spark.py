"""Measure a Spark cluster on the cluster of `make cluster-up`: how soon it is ready, what it holds while it idles.

Writes bench/results/spark.md: charts and image as they are beside those of an earlier commit, in turn, and what the
sample of partitions prints. The earlier image has to be in the nodes, by the name of --image-before.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml
from measuring import TOP, run, written_by
from reconcile import CONTEXT, RESULTS, Cluster, kubectl, until

WORKERS = 2
SETTLE_SECONDS = 30
VALUES = {
    "replicas": WORKERS,
    "resources": {"limits": {"cpu": "1", "memory": "1536Mi"}, "requests": {"cpu": "20m"}},
    "master": {"resources": {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "20m"}}},
}
FIRST_RESULT = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
print(spark.range(4).groupBy().sum("id").first()[0])
spark.stop()
"""
# Working set, as `kubectl top` has it, and proportional and resident sizes of all processes but this one, in KiB.
MEMORY = """
import glob, pathlib, re
def read(path):
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""
used = int(read("/sys/fs/cgroup/memory.current") or read("/sys/fs/cgroup/memory/memory.usage_in_bytes"))
stat = read("/sys/fs/cgroup/memory.stat") or read("/sys/fs/cgroup/memory/memory.stat")
inactive = int(re.search(r"(?m)^(?:total_)?inactive_file (\\d+)$", stat)[1])
sizes = {"Rss": 0, "Pss": 0}
for folder in glob.glob("/proc/[0-9]*"):
    if "java" in read(folder + "/cmdline"):
        for name in sizes:
            found = re.search(rf"(?m)^{name}: *(\\d+) kB$", read(folder + "/smaps_rollup"))
            sizes[name] += int(found[1]) if found else 0
print((used - inactive) // 1024, sizes["Rss"], sizes["Pss"])
"""
SAMPLE = TOP / "manifests" / "samples" / "spark" / "partitions.yaml"


def charts_of(revision: str, folder: Path) -> Path:
    """Return the charts of a commit, unpacked."""
    packed = subprocess.run(["git", "archive", revision, "charts"], cwd=TOP, check=True, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return folder / "charts"


def measure(cluster: Cluster, charts: Path, image: str) -> tuple[float, float, list[float]]:
    """Return the seconds to all workers ready and of a driver to its first result, and MiB: working set, RSS, PSS."""
    values = charts / "values.json"
    values.write_text(json.dumps({**VALUES, "image": image}))
    text = run("helm", "template", "it", str(charts / "spark"), f"--namespace={cluster.name}", f"--values={values}")
    start = time.monotonic()
    subprocess.run(
        ["kubectl", f"--context={CONTEXT}", "apply", f"--namespace={cluster.name}", "--filename=-"],
        input=text, text=True, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: cluster.get("Deployment", "it-worker").get("status", {}).get("readyReplicas", 0) == WORKERS, 300, 0.1)
    ready = time.monotonic() - start
    threading.Event().wait(SETTLE_SECONDS)  # an idle cluster is what is measured: nothing to ask for
    pods = [pod["metadata"]["name"] for pod in cluster.all("Pod")]
    exec_ = ("exec", f"--namespace={cluster.name}")
    sizes = [kubectl(*exec_, pod, "--", "python", "-c", MEMORY).split() for pod in pods]
    memory = [sum(int(size[which]) for size in sizes) / 1024 for which in range(3)]
    start = time.monotonic()
    kubectl(*exec_, "deployment/it-worker", "--", "python", "-c", FIRST_RESULT)
    first = time.monotonic() - start
    cluster.empty()
    return ready, first, memory


def partitions(cluster: Cluster) -> list[str]:
    """Return what the sample prints."""
    job = yaml.safe_load(SAMPLE.read_text())
    cluster.apply(job)
    until(lambda: cluster.get("WorkerJob", "partitions").get("status", {}).get("state") == "Complete", 300, 1)
    printed: str = cluster.get("WorkerJob", "partitions")["status"]["output"]
    cluster.empty()
    lines = printed.splitlines()
    # Behind what Spark says at its start.
    return lines[next(number for number, line in enumerate(lines) if line.startswith("8 partitions")) :]


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="commit whose charts are measured beside these")
    parser.add_argument("--image-before", default="trireme/spark:before", help="image of that commit")
    parser.add_argument("--image", default="trireme/spark:dev", help="image of now")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    written, cluster = written_by("bench/spark.py"), Cluster()
    found: dict[str, list[tuple[float, float, list[float]]]] = {"before": [], "now": []}
    with tempfile.TemporaryDirectory() as folder:
        versions = {}
        for name, revision in (("before", arguments.before), ("now", "HEAD")):
            (Path(folder) / name).mkdir()
            versions[name] = charts_of(revision, Path(folder) / name)
        try:
            for _ in range(arguments.runs):
                for name, charts in versions.items():
                    image = arguments.image_before if name == "before" else arguments.image
                    found[name].append(measure(cluster, charts, image))
                    print(name, found[name][-1], flush=True)
            printed = partitions(cluster)
        finally:
            cluster.end()

    def medians(name: str) -> list[float]:
        rows = [[ready, first, *memory] for ready, first, memory in found[name]]
        return [statistics.median(column) for column in zip(*rows, strict=True)]

    what = (
        ("ready: master and two workers, s", "", 1),
        ("a driver's first result, its start included, s", "", 1),
        ("idle: working sets of the three pods, MiB", "at most 500", 0),
        ("idle: resident sizes of the three JVMs, MiB", "", 0),
        ("idle: proportional sizes, pages shared among them counted once, MiB", "", 0),
    )
    columns = zip(what, medians("before"), medians("now"), strict=True)
    lines = [
        "# A Spark cluster's start and memory, and what partitioning does",
        "",
        f"{written}.",
        f"Medians of {arguments.runs} runs, in turn with charts and image of {arguments.before}.",
        "",
        f"| what | {arguments.before} | now | ratio | wanted |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {name} | {before:.{digits}f} | {now:.{digits}f} | {now / before:.2f} | {wanted} |"
            for (name, wanted, digits), before, now in columns
        ),
        "",
        "## manifests/samples/spark/partitions.yaml",
        "",
        "Nine of ten rows have one key; two workers of one core.",
        "",
        "```",
        *printed,
        "```",
    ]
    (RESULTS / "spark.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
