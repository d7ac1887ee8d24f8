"""Dask's own points: memory, chunks, reports, configuration and metrics, by the samples as they stand."""

import re

import pytest
from reader import Reader

from on_cluster import TOP, until
from pages import missing, snippets

SPILLED, CHUNKS = (text.splitlines() for text in snippets("docs/dask.md", "Memory", "text"))
(GIL,) = (text.splitlines() for text in snippets("docs/dask.md", "What the GIL does", "text"))
SMALL = {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "20m"}}


def run_sample(kubectl, name, job, seconds=180):
    """Apply a sample; return the last lines that its driver printed."""
    kubectl("apply", "--filename", TOP / "manifests" / "samples" / "dask" / f"{name}.yaml")
    kubectl.wait(f"wj/{job}", "jsonpath={.status.startTime}", seconds=180)
    kubectl.wait(f"wj/{job}", "condition=Complete", seconds=seconds)
    return kubectl.get(f"wj/{job}")["status"]["output"]


@pytest.fixture(autouse=True)
def _restricted(kubectl):
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")


def test_more_data_than_memory_is_spilled(kubectl):
    """By the workers' own count; none of them was killed and started again, so each process is the first."""
    output = run_sample(kubectl, "spill", "spill")
    data, memory, spilled = map(
        int, re.search(r"(\d+) bytes on .* (\d+) bytes of memory, .* (\d+) were", output).groups()
    )
    assert data > 3 * memory
    assert spilled > data - memory
    assert output.splitlines()[-1] == "the same 2 processes"
    assert missing(SPILLED, output.splitlines(), figures=True) is None


def test_what_the_size_of_chunks_does(kubectl):
    lines = run_sample(kubectl, "chunks", "chunks").splitlines()
    sizes, tasks, _, peaks = zip(*(map(float, line.split()) for line in lines[-4:]), strict=True)
    assert list(sizes) == sorted(sizes)
    assert list(tasks) == sorted(tasks, reverse=True)
    assert missing(CHUNKS, lines, figures=True) is None
    # One chunk of 200 MB, another turned, and their sum.
    assert peaks[-1] - peaks[-2] > 200


def test_processes_against_threads(kubectl):
    """The GIL lets threads use one CPU, whatever else the machine does."""
    lines = run_sample(kubectl, "processes", "gil").splitlines()
    assert missing(GIL, lines, figures=True) is None
    rows = {(work, on): (int(processes), float(cpus)) for work, on, processes, _, cpus in map(str.split, lines[-4:])}
    assert {on: processes for (_, on), (processes, _) in rows.items()} == {"threads": 1, "processes": 2}
    assert rows["pure_python", "threads"][1] < 1.15
    threads, processes = (kubectl.get(name)["status"]["capacity"] for name in ("wc/gil", "wg/gil-processes"))
    assert threads == {"threads": "2", "memory": str(2**30 * 9 // 10)}
    assert processes == {"processes": "2", "threads": "1", "memory": str(2**29 * 9 // 10)}
    # Whoever leaves has its results moved to who stays, from each process of the pod.
    driver = {**kubectl.get("wj/gil")["spec"]["driver"], "script": HELD}
    kubectl.apply({**KEPT, "spec": {"clusterRef": {"name": "gil"}, "driver": driver}})
    until(lambda: "held" in kubectl("logs", "--selector=trireme.dev/job=kept", check=False), seconds=120)
    kubectl("scale", "wg/gil-processes", "--replicas=0")
    kubectl.wait("wj/kept", "condition=Complete", seconds=120)
    assert kubectl.get("wj/kept")["status"]["output"].splitlines()[-1] == "8 results by 8 runs"


def test_a_worker_ends_at_the_threshold_rather_than_be_killed(kubectl):
    """The kernel leaves no word; the worker itself says what it took, and of how much."""
    config = {"worker": {"memory": {"terminate": 0.85}}, "scheduler": {"allowed-failures": 0}}
    dask = {"config": {"distributed": config}, "scheduler": {"resources": SMALL}}
    cluster = {"spec": {"engine": "dask", "replicas": 1, "resources": SMALL, "dask": dask}}
    spec = {"clusterTemplate": cluster, "driver": {"resources": SMALL, "script": GREEDY}}
    kubectl.apply({**KEPT, "spec": spec})

    def ended():
        pods = kubectl.get("pods", "--selector=app.kubernetes.io/component=worker")["items"]
        states = [one["lastState"] for pod in pods for one in pod["status"].get("containerStatuses", [])]
        return [state["terminated"] for state in states if "terminated" in state]

    [found] = until(ended, seconds=180)
    assert (found["reason"], found["exitCode"]) == ("Error", 1)
    limit = 2**29 * 9 // 10
    assert re.fullmatch(
        rf"used \d+ bytes: beyond distributed\.worker\.memory\.terminate, 0\.85 of {limit}", found["message"]
    )
    kubectl.wait("wj/kept", "condition=Complete")
    assert kubectl.get("wj/kept")["status"]["output"].splitlines()[-1] == "KilledWorker"


def test_a_report_outlives_its_job(kubectl, tmp_path):
    (script,) = snippets("docs/dask.md", "Dashboard, metrics, reports", "sh")
    reader = Reader(tmp_path, kubectl)
    reader.does(script)
    assert kubectl.get("wj/report")["status"]["output"] == "mean 0.50, see /reports/mean.html"
    kubectl("delete", "wj/report")
    reader.does(script.splitlines()[-1])
    html = (tmp_path / "mean.html").read_text()
    assert "Dask Performance Report" in html
    assert "random_sample" in html


KEPT = {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerJob", "metadata": {"name": "kept"}}
# On both processes of a pod, which leave in the middle of it: half of the tasks run then, the others are done.
HELD = """
import time
from distributed import Client, Queue, wait

def work(number, runs):
    runs.put(number)
    time.sleep(number)  # this is the work, as long as it is to be: nothing is waited for
    return number

with Client() as client:
    def processes():
        workers = client.scheduler_info(n_workers=-1)["workers"]
        return [address for address, one in workers.items() if "processes" in one["name"]]

    runs, there = Queue("runs"), {"workers": processes(), "allow_other_workers": True, "pure": False}
    assert len(processes()) == 2
    held = client.map(work, [0, 0.1] * 3, runs=runs, **there)
    wait(held)
    running = client.map(work, [5, 6], runs=runs, **there)
    while runs.qsize() < 8:
        time.sleep(0.1)  # between two questions: nothing tells that both have begun
    print("held", flush=True)
    while processes():
        time.sleep(0.1)  # between two questions: a worker tells nobody that it has gone
    print(len(client.gather([*held, *running])), "results by", runs.qsize(), "runs")
"""
# More than the threshold leaves, and less than the pod's limit.
GREEDY = """
from distributed import Client, KilledWorker

def takes(size):
    import threading
    kept = bytearray(size)
    threading.Event().wait()

with Client() as client:
    try:
        client.submit(takes, 340 * 2**20).result()
    except KilledWorker as error:
        print(type(error).__name__)
"""
CONFIG = {
    "distributed": {
        "worker": {"memory": {"target": 0.4, "spill": 0.5, "pause": 0.75}},
        "scheduler": {"work-stealing": False},
        "comm": {"timeouts": {"connect": "17s"}},
    },
    "array": {"chunk-size": "7MiB"},
    "mine": {"key": ["a", "b"]},
}
LOOK = """
import json, os, urllib.request
import dask
import mine
from distributed import Client

NAMES = %r


def config(name):
    return dask.config.get(name)


def memory(dask_worker):
    manager = dask_worker.memory_manager
    return [manager.memory_target_fraction, manager.memory_spill_fraction, manager.memory_pause_fraction,
            manager.max_spill, dask_worker.local_directory.partition("/dask")[0]]


def page(url):
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


with Client() as client:
    client.wait_for_workers(1)
    for name in NAMES:
        seen = [config(name), *client.run(config, name).values(), client.run_on_scheduler(config, name)]
        print(json.dumps([name, *seen]))
    print(json.dumps(["memory", *client.run(memory).values()]))
    print(json.dumps(["threads", *client.nthreads().values()]))
    # By reference, so that scheduler and worker import it.
    print(json.dumps(["code", client.submit(mine.double, 21).result(), client.gather(client.map(mine.double, [1]))]))
    (worker,) = client.scheduler_info()["workers"]
    client.submit(sum, [1, 2]).result()
    host = worker.partition("://")[2].rpartition(":")[0]
    print(json.dumps(["worker metrics", "dask_worker_memory_bytes" in page(f"http://{host}:8790/metrics")]))
    scheduler = os.environ["DASK_SCHEDULER_ADDRESS"].partition("://")[2].rpartition(":")[0]
    print(json.dumps(["scheduler metrics", "dask_scheduler_workers{" in page(f"http://{scheduler}:8787/metrics")]))
    print(json.dumps(["dashboard", "Dask Diagnostic UI" in page(f"http://{scheduler}:8787/status")]))
"""
NAMES = ("distributed.worker.memory.target", "distributed.scheduler.work-stealing", "array.chunk-size", "mine.key")


def test_configuration_metrics_and_dashboard(kubectl):
    """One configuration for driver, worker and scheduler, in force; what each worker offers is in the status, too."""
    spec = {
        "engine": "dask",
        "code": {"configMap": "mine"},
        "resources": {"limits": {"cpu": "2", "memory": "512Mi"}, "requests": {"cpu": "20m"}},
        "dask": {
            "config": {**CONFIG, "distribted": {}},
            "spill": {"size": "100M", "storageClassName": "standard"},
            "scheduler": {"resources": SMALL},
        },
    }
    cluster = {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerCluster", "metadata": {"name": "it"}, "spec": spec}
    driver = {"resources": SMALL, "script": LOOK % (NAMES,)}
    job = {"clusterRef": {"name": "it"}, "driver": driver}
    kubectl("create", "configmap", "mine", "--from-literal=mine.py=def double(x): return 2 * x")
    kubectl.apply(cluster, {**cluster, "kind": "WorkerJob", "spec": job})
    kubectl.wait("wc/it", "condition=Ready", seconds=180)
    kubectl.wait("wj/it", "condition=Complete")
    lines = kubectl.get("wj/it")["status"]["output"].splitlines()
    said = {line[2 : line.index('"', 2)]: line for line in lines}
    assert said == {
        NAMES[0]: f'["{NAMES[0]}", 0.4, 0.4, 0.4]',
        NAMES[1]: f'["{NAMES[1]}", false, false, false]',
        NAMES[2]: f'["{NAMES[2]}", "7MiB", "7MiB", "7MiB"]',
        NAMES[3]: f'["{NAMES[3]}", ["a", "b"], ["a", "b"], ["a", "b"]]',
        "memory": '["memory", [0.4, 0.5, 0.75, 90000000, "/spill"]]',
        "threads": '["threads", 2]',
        "code": '["code", 42, [2]]',
        "worker metrics": '["worker metrics", true]',
        "scheduler metrics": '["scheduler metrics", true]',
        "dashboard": '["dashboard", true]',
    }
    status = kubectl.get("wc/it")["status"]
    assert status["capacity"] == {"threads": "2", "memory": str(2**29 * 9 // 10), "spill": "90000000"}
    dashboard = {point["name"]: point["url"] for point in status["endpoints"]}["dashboard"]
    assert dashboard == f"http://it-scheduler.{kubectl.namespace}.svc:8787/status"
    (told,) = [one for one in status["conditions"] if one["type"] == "ConfigUnknown"]
    assert told["message"] == "spec.dask.config: distribted: Dask has no such key; did you mean distributed?"
    # The worker's volume comes and goes with its pod.
    claims = kubectl.get("pvc")["items"]
    assert [claim["spec"]["storageClassName"] for claim in claims] == ["standard"]
    kubectl("scale", "wc/it", "--replicas=0")
    until(lambda: not kubectl("get", "pvc", "--output=name").strip())
