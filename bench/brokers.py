"""What Celery's brokers do: how long urgent tasks wait, and what becomes of tasks as broker or workers go."""

import argparse
import json
import re
import statistics
from collections import Counter
from pathlib import Path

from measuring import written_by
from reconcile import Object, is_true, kubectl, until
from work import Cluster, loads, namespace, percentile_95

BROKERS = ("redis", "rabbitmq")
NAME = "it"
WAITING = 1000
URGENT = 20
RESTARTS = 3
SENT = 1000
LEAVING = 10
TASKS = """
import time
from celery import Celery
app = Celery("tasks")

@app.task
def work(sent):
    waited = time.time() - sent
    time.sleep(0.02)  # this is the work, as long as it is to be: nothing is waited for
    return waited

@app.task
def note(number):
    print(f"noted {number}", flush=True)
"""
# Twice the same, without a priority and with one.
WAVES = f"""
import json, time
from tasks import work
waited = {{}}
for priority in (None, 9):
    others = [work.apply_async([time.time()]) for _ in range({WAITING})]
    urgent = [work.apply_async([time.time()], priority=priority) for _ in range({URGENT})]
    waited[str(priority)] = [result.get(timeout=600) for result in urgent]
    others[-1].get(timeout=600)
print(json.dumps(waited))
"""
LOAD = f"""
import time
from tasks import note
for number in range({SENT}):
    note.delay(number)
    time.sleep(0.03)  # the pace of the load: nothing is waited for
print({SENT})
"""
RESOURCES = {"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"cpu": "50m"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    written = written_by("bench/brokers.py")
    waves, restarted, left = [], [], []
    for broker in BROKERS:
        with namespace() as cluster:
            start(cluster, broker)
            waves += waiting(cluster, broker)
            restarted.append(restarts(cluster, broker))
            left += leaving(cluster, broker)
    lines = [
        "# Celery's brokers",
        "",
        f"{written}.",
        "",
        "## Urgent tasks",
        "",
        f"{URGENT} tasks are sent behind {WAITING:,} that wait, of 20 ms each, to one worker of one process: without a",
        "priority, and with priority 9. RabbitMQ's quorum queues give two urgent tasks for each other one.",
        "",
        "| broker | priority | s from sending to start: median | p95 | max |",
        "| --- | --- | --- | --- | --- |",
        *waves,
        "",
        "## The broker is started again under load",
        "",
        f"{SENT:,} tasks are sent, one each 30 ms; the broker's pod is deleted {RESTARTS} times meanwhile. Who sends",
        "waits for it, and so does the worker, whose container is not started again.",
        "",
        "| broker | sent | done | lost | done twice | s without a broker: median | worker restarts |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *restarted,
        "",
        "## Workers leave among short tasks",
        "",
        f"{LEAVING} workers of two processes each are told to leave (TERM) once they have run 20 tasks of less than a",
        "millisecond, and there are others: by turns `celery worker` and the chart's worker, with the same settings.",
        "",
        "| broker | worker | s until it has left: median | p95 | max | left within 10 s | tasks | run twice |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *left,
    ]
    text = "\n".join(lines) + "\n"
    asked.results.mkdir(parents=True, exist_ok=True)
    (asked.results / "brokers.md").write_text(text)
    print(text, flush=True)


def start(cluster: Cluster, broker: str) -> None:
    """Start a cluster of one worker."""
    spec = {
        "engine": "celery",
        "replicas": 1,
        "resources": RESOURCES,
        "code": {"configMap": "tasks"},
        "celery": {"app": "tasks", "broker": {"type": broker, "resources": RESOURCES}},
    }
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tasks"}, "data": {"tasks.py": TASKS}})
    cluster.apply(item("WorkerCluster", NAME, spec))
    until(lambda: is_true(cluster.get("WorkerCluster", NAME), "Ready"))


def item(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def send(cluster: Cluster, name: str, script: str) -> None:
    """Start a job."""
    driver = {"resources": RESOURCES, "script": script}
    cluster.apply(item("WorkerJob", name, {"clusterRef": {"name": NAME}, "driver": driver}))


def output(cluster: Cluster, name: str) -> object:
    """Return what a job printed in the end, in JSON."""
    until(lambda: is_true(cluster.get("WorkerJob", name), "Complete"), 900, 1)
    return json.loads(cluster.get("WorkerJob", name)["status"]["output"].splitlines()[-1])


def waiting(cluster: Cluster, broker: str) -> list[str]:
    """Measure how long urgent tasks wait; return the table's lines."""
    send(cluster, "waves", WAVES)
    lines = []
    for priority, seconds in output(cluster, "waves").items():
        figures = (statistics.median(seconds), percentile_95(seconds), max(seconds))
        said = "none" if priority == "None" else priority
        lines.append(f"| {broker} | {said} | {' | '.join(f'{figure:.2f}' for figure in figures)} |")
    return lines


def leaving(cluster: Cluster, broker: str) -> list[str]:
    """Let workers leave among short tasks; return the table's lines."""
    send(cluster, "leaves", loads.brief(("celery", "trireme"), LEAVING, 100 * LEAVING))
    lines = []
    for kind, found in output(cluster, "leaves").items():
        seconds = found["seconds"]
        figures = (statistics.median(seconds), percentile_95(seconds), max(seconds))
        soon = sum(one < 10 for one in seconds)
        said = " | ".join(f"{figure:.1f}" for figure in figures)
        lines.append(
            f"| {broker} | {kind} | {said} | {soon} of {len(seconds)} | {found['done']} | {found['doubled']} |"
        )
    return lines


def noted(cluster: Cluster) -> Counter[str]:
    """Return how often each task was run."""
    log = kubectl("logs", f"--namespace={cluster.name}", f"deployment/{NAME}-worker", "--tail=-1")
    return Counter(re.findall(r"noted (\d+)", log))


def restarts(cluster: Cluster, broker: str) -> str:
    """Start the broker again and again under load; return the table's line."""
    send(cluster, "load", LOAD)
    away = []
    for number in range(1, RESTARTS + 1):
        until(lambda goal=number * SENT // (RESTARTS + 1): len(noted(cluster)) >= goal)
        kubectl("delete", f"--namespace={cluster.name}", f"pod/{NAME}-broker-0")
        away.append(until(lambda: cluster.get("StatefulSet", f"{NAME}-broker")["status"].get("readyReplicas")))
    sent = output(cluster, "load")
    try:
        until(lambda: len(noted(cluster)) == sent, 120, 1)
    except TimeoutError:
        print("not all are done", flush=True)
    counts = noted(cluster)
    (worker,) = [pod for pod in cluster.all("Pod") if pod["metadata"]["name"].startswith(f"{NAME}-worker-")]
    again = sum(one["restartCount"] for one in worker["status"]["containerStatuses"])
    twice = sum(count > 1 for count in counts.values())
    seconds = statistics.median(away)
    return f"| {broker} | {sent} | {len(counts)} | {sent - len(counts)} | {twice} | {seconds:.1f} | {again} |"


if __name__ == "__main__":
    main()
