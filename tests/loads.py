"""Loads that count how often each piece of their work is done while workers come and go, for tests and benchmarks.

A load is a cluster of three workers called `load` and a job that works until the file /tmp/stop is in its driver.
It prints, as JSON: `asked` pieces of work, how many were `done`, how many finished more than once (`doubled`).
"""

import json

from on_cluster import condition, until

WORKER = {"limits": {"cpu": "1", "memory": "640Mi"}, "requests": {"cpu": "20m", "memory": "128Mi"}}
LARGE = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "20m", "memory": "256Mi"}}
OWN = {
    "dask": {"scheduler": {"resources": WORKER}},
    "spark": {"master": {"resources": LARGE}},
    "celery": {"app": "tasks", "broker": {"resources": {"limits": {"cpu": "500m", "memory": "128Mi"}}}},
}
# Each task says that it ran, in a place that outlives its worker.
TASKS = """
import time
from celery import Celery
app = Celery("tasks")

@app.task
def slow(number, seconds):
    time.sleep(seconds)  # this is the work, as long as it is to be: nothing is waited for
    app.backend.client.hincrby("finished", number, 1)
    return number
"""
SCRIPTS = {
    # Large intermediate results, held by workers for the whole round, and tasks of several seconds that read them.
    "dask": """
import json, os, time
from collections import Counter
import numpy as np
from distributed import Client, get_worker, wait

def make(number):
    made = np.full(2**20, number, dtype=float)
    get_worker().log_event("finished", f"make-{number}")
    return made

def slow(made, number):
    time.sleep(1 + number % 4)  # this is the work: nothing is waited for
    get_worker().log_event("finished", f"slow-{number}")
    return int(made[0])

asked = wrong = seen = 0
finished = Counter()
with Client() as client:
    while not os.path.exists("/tmp/stop"):
        numbers = range(asked, asked + 12)
        made = client.map(make, numbers)
        wait(made)
        open("/tmp/working", "w").close()
        wrong += sum(a != b for a, b in zip(client.gather(client.map(slow, made, numbers)), numbers))
        asked += 12
        # The scheduler keeps the last 1000 only.
        events = [event for event in client.get_events("finished") if event[0] > seen]
        finished.update(name for _, name in events)
        seen = max(time for time, _ in events)
doubled = sum(number > 1 for number in finished.values())
print(json.dumps({"asked": 2 * asked, "done": len(finished) - wrong, "doubled": doubled}))
""",
    # Map outputs that are read again and again.
    "spark": """
import json, os, time
from pyspark.sql import SparkSession

def make(number):
    made.add(1)
    return number % 6, number

def read(pairs):
    numbers = sorted(number for _, numbers in pairs for number in numbers)
    time.sleep(1 + len(numbers) % 3)  # this is the work: nothing is waited for
    return numbers

spark = SparkSession.builder.config("spark.cores.max", "3").getOrCreate()
context = spark.sparkContext
asked = done = 0
made = context.accumulator(0)
while not os.path.exists("/tmp/stop"):
    shuffled = context.parallelize(range(24), 8).map(make).groupByKey(6)
    shuffled.count()
    open("/tmp/working", "w").close()
    for _ in range(3):
        done += 24 * (sorted(shuffled.mapPartitions(read).collect()) == list(range(24)))
    asked += 24
spark.stop()
print(json.dumps({"asked": asked, "done": done // 3, "doubled": made.value - asked}))
""",
    "celery": """
import json, os
from celery import group
from tasks import app, slow

asked = done = 0
while not os.path.exists("/tmp/stop"):
    numbers = range(asked, asked + 9)
    # Up to 8 s each, acknowledged when done.
    sent = group(slow.s(number, (1, 2, 8)[number % 3]) for number in numbers).apply_async()
    open("/tmp/working", "w").close()
    done += len(set(sent.get(timeout=600)) & set(numbers))
    asked += 9
runs = app.backend.client.hgetall("finished").values()
print(json.dumps({"asked": asked, "done": done, "doubled": sum(int(run) > 1 for run in runs)}))
""",
}


def cluster(engine, workers=3):
    """Return the cluster of a load."""
    spec = {
        "engine": engine,
        "resources": LARGE if engine == "spark" else WORKER,
        "replicas": workers,
        "drainSeconds": 60,
        engine: OWN[engine],
    }
    # The control pod stays when the workers get another image: one that is replaced forgets all work.
    if engine == "dask":
        spec["values"] = {"scheduler": {"image": "trireme/dask:dev"}}
    if engine == "spark":
        spec["values"] = {"master": {"image": "trireme/spark:dev"}}
    if engine == "celery":
        spec["code"] = {"configMap": "tasks"}
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerCluster", "metadata": {"name": "load"}, "spec": spec}


def job(engine):
    """Return the job of a load."""
    spec = {"clusterRef": {"name": "load"}, "driver": {"resources": LARGE, "script": SCRIPTS[engine]}}
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerJob", "metadata": {"name": "load"}, "spec": spec}


class Load:
    """A load that runs.

    Args:
        kubectl: in a namespace of its own.
        workers: as many to begin with.
        driver: the batch/v1 Job that works.
    """

    def __init__(self, kubectl, workers, driver):
        self.kubectl = kubectl
        self.driver = driver
        until(lambda: kubectl.get(f"job/{driver}").get("status", {}).get("ready"), seconds=240)
        working = ("exec", f"job/{driver}", "--", "sh", "-c", "ls /tmp/working 2>/dev/null; true")
        self.settled(workers)
        until(lambda: kubectl(*working), seconds=120)

    @classmethod
    def of_resources(cls, kubectl, engine, workers=3):
        """Start one by a WorkerCluster and a WorkerJob."""
        kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
        kubectl.apply(cluster(engine, workers), job(engine))
        kubectl.wait("wj/load", "condition=DriverRunning", seconds=240)
        return cls(kubectl, workers, "load-driver")

    def workers(self):
        """Return the worker pods that are not leaving, by name."""
        pods = self.kubectl.get("pods", "--selector=app.kubernetes.io/instance=load,app.kubernetes.io/component=worker")
        return {pod["metadata"]["name"]: pod for pod in pods["items"] if "deletionTimestamp" not in pod["metadata"]}

    def leaving(self):
        """Return the names of the worker pods that are about to go, but not gone."""
        pods = self.kubectl.get("pods", "--selector=app.kubernetes.io/instance=load,app.kubernetes.io/component=worker")
        return [pod["metadata"]["name"] for pod in pods["items"] if "deletionTimestamp" in pod["metadata"]]

    def settled(self, workers, seconds=240):
        """Wait until as many workers are ready and nobody is leaving."""

        def question():
            pods = self.workers().values()
            ready = [pod for pod in pods if condition(pod, "Ready").get("status") == "True"]
            return len(ready) == len(pods) == workers and not self.leaving()

        until(question, seconds=seconds)

    def finish(self):
        """End it, and return what it counted."""
        self.kubectl("exec", f"job/{self.driver}", "--", "touch", "/tmp/stop")
        self.kubectl.wait(f"job/{self.driver}", "condition=Complete", seconds=300)
        # An engine's client may log as it ends.
        lines = self.kubectl("logs", f"job/{self.driver}", "--tail=100").splitlines()
        return json.loads([line for line in lines if line.startswith("{")][-1])


# Workers of its own, by turns of each kind, are told to leave among tasks of less than a millisecond; a last one ends
# them all. Most have given their processes a task then of which they have not heard yet that it has begun.
_BRIEF = """
import json, os, random, subprocess, sys, time
from collections import Counter
from pathlib import Path

Path("/tmp/brief.py").write_text('''
from tasks import app

@app.task
def brief(kind, number):
    with open(f"/tmp/{kind}", "w") as pipe:
        print(number, file=pipe)
''')
sys.path.append("/tmp")
from brief import brief

COMMANDS = {
    "celery": [sys.executable, "-m", "celery", "--app=brief", "worker"],
    "trireme": [sys.executable, "/opt/trireme/scripts/trireme_worker.py", "brief"],
}
OPTIONS = ["--concurrency=2", "--without-gossip", "--without-mingle", "--loglevel=ERROR"]
ENV = {**os.environ, "PYTHONPATH": os.environ["PYTHONPATH"] + ":/tmp", "TRIREME_TERMINATION_LOG": "/tmp/told"}
pipes = {}
ran = {kind: Counter() for kind in KINDS}
left = {kind: [] for kind in KINDS}
said = {kind: "" for kind in KINDS}
for kind in KINDS:
    os.mkfifo(f"/tmp/{kind}")
    pipes[kind] = os.fdopen(os.open(f"/tmp/{kind}", os.O_RDWR), "r")
    for number in range(TASKS):
        brief.apply_async([kind, number], queue=f"brief-{kind}")
for number in range(LEAVING + 1):
    for kind in KINDS:
        wanted = min(len(ran[kind]) + 20, TASKS) if number < LEAVING else TASKS
        worker = [*COMMANDS[kind], *OPTIONS, f"--queues=brief-{kind}"]
        with subprocess.Popen(worker, env=ENV, stdout=subprocess.PIPE, text=True) as process:
            while len(ran[kind]) < wanted:
                ran[kind][pipes[kind].readline()] += 1
            time.sleep(random.uniform(0, 0.05))  # it is told at any moment, not just when a task has run
            process.terminate()
            start = time.monotonic()
            said[kind] += process.communicate()[0]
            left[kind].append(time.monotonic() - start)
for kind in KINDS:
    os.write(pipes[kind].fileno(), b"all\\n")
    ran[kind].update(iter(pipes[kind].readline, "all\\n"))
print(json.dumps({kind: {
    "done": len(ran[kind]), "doubled": sum(count > 1 for count in ran[kind].values()),
    "seconds": left[kind][:LEAVING], "at_limit": said[kind].count("Cold shutdown"),
} for kind in KINDS}))
"""


def brief(kinds, leaving, tasks):
    """Return a job's script in which Celery workers leave among short tasks.

    It prints, as JSON by kind: tasks that were `done` and `doubled`, the `seconds` that each worker took to leave, and
    how many reached the limit of their drain (`at_limit`).

    Args:
        kinds: of workers: `trireme`, the chart's, or `celery`, by Celery's command.
        leaving: workers of each kind, without the last one.
        tasks: for each kind.
    """
    return f"KINDS, LEAVING, TASKS = {list(kinds)!r}, {leaving}, {tasks}{_BRIEF}"
