"""Measure the operator on the cluster of `make cluster-up`, beside plain manifests and dask-kubernetes in the same run.

Writes a file of bench/results for each part: ready, jobs, clusters, cost. Some can be named; all of them by default.
dask-kubernetes is installed from PyPI into an environment of its own, and its operator runs on this machine.
"""

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lightkube import ApiError, Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from measuring import CACHE, TOP, UV, run, written_by

from trireme_operator.api import KINDS
from trireme_operator.charts import Charts, InProcess
from trireme_operator.plan import cluster as cluster_plan

RESULTS = TOP / "bench" / "results"
CONTEXT = "kind-trireme"
DASK_KUBERNETES = "dask-kubernetes==2026.3.0"
Object = dict[str, Any]

RESOURCES = {name: create_namespaced_resource(*kind) for name, kind in KINDS.items()}
DASK_CLUSTER = create_namespaced_resource("kubernetes.dask.org", "v1", "DaskCluster", "daskclusters")
DASK_JOB = create_namespaced_resource("kubernetes.dask.org", "v1", "DaskJob", "daskjobs")

TINY = {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "5m", "memory": "64Mi"}}
JVM = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "5m", "memory": "64Mi"}}
NOWHERE = {"nodeSelector": {"trireme.dev/no-node-has-this": "true"}}


class Cluster:
    """What the measurements ask of the API server, in a namespace of their own."""

    def __init__(self) -> None:
        config = KubeConfig.from_file(Path.home() / ".kube" / "config").get(context_name=CONTEXT)
        self.client = Client(config=config, field_manager="bench")
        self.name = f"bench-{uuid.uuid4().hex[:6]}"
        kubectl("create", "namespace", self.name)

    def end(self) -> None:
        kubectl("delete", "namespace", self.name, "--wait=false")

    def apply(self, item: Object) -> None:
        item = {**item, "metadata": {**item["metadata"], "namespace": self.name}}
        self.client.apply(RESOURCES[item["kind"]].from_dict(item), force=True)

    def get(self, kind: str, name: str) -> Object:
        try:
            return dict(self.client.get(RESOURCES[kind], name, namespace=self.name))
        except ApiError as error:
            if error.status.code != 404:
                raise
            return {}

    def all(self, kind: str) -> list[Object]:
        return [dict(item) for item in self.client.list(RESOURCES[kind], namespace=self.name)]

    def proxied(self, path: str) -> Any:
        """Return what a Service answers to a GET through the API server; None while it does not."""
        try:
            return json.loads(kubectl("get", "--raw", f"/api/v1/namespaces/{self.name}/{path}"))
        except (subprocess.CalledProcessError, ValueError):
            return None

    def empty(self) -> None:
        """Delete everything, and wait until no pod is left."""
        kinds = "workerjobs,workerclusters,jobs,deployments,statefulsets,services,configmaps,secrets"
        kubectl("delete", kinds, "--all", f"--namespace={self.name}", "--wait=false")
        until(lambda: not self.all("Pod"), 180)


def kubectl(*arguments: str) -> str:
    command = ["kubectl", f"--context={CONTEXT}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def until(question: Callable[[], Any], seconds: float = 300, every: float = 0.1) -> float:
    """Ask until the answer is true; return the seconds that it took."""
    start, pause = time.monotonic(), threading.Event()
    while not question():
        if time.monotonic() - start > seconds:
            raise TimeoutError(f"not so after {seconds} s")
        pause.wait(every)
    return time.monotonic() - start


def ready_replicas(item: Object) -> int:
    return int(item.get("status", {}).get("readyReplicas", 0))


def is_true(item: Object, type_: str) -> bool:
    conditions = item.get("status", {}).get("conditions", [])
    return any(one["type"] == type_ and one["status"] == "True" for one in conditions)


def worker_cluster(engine: str, replicas: int, name: str = "it", **more: Any) -> Object:
    control = {"dask": "scheduler", "spark": "master", "celery": "broker"}[engine]
    resources = JVM if engine == "spark" else TINY
    block: Object = {control: {"resources": resources}}
    spec = {"engine": engine, "replicas": replicas, "resources": resources, "drainSeconds": 5, engine: block, **more}
    if engine == "celery":
        spec["code"] = {"configMap": "code"}
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerCluster", "metadata": {"name": name}, "spec": spec}


def worker_job(name: str, driver: Object, **spec: Any) -> Object:
    driver = {"resources": TINY, **driver}
    spec = {**spec, "driver": driver}
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerJob", "metadata": {"name": name}, "spec": spec}


def dask_cluster_spec(workers: int) -> Object:
    """Return a DaskCluster's spec with the same pods."""
    container = {"image": "trireme/dask:dev", "imagePullPolicy": "Never", "resources": TINY}
    probe = {"httpGet": {"port": "http-dashboard", "path": "/health"}, "periodSeconds": 1}
    return {
        "worker": {
            "replicas": workers,
            "spec": {
                "enableServiceLinks": False,
                "containers": [
                    {
                        "name": "worker",
                        **container,
                        "args": ["dask", "worker", "--no-nanny", "--name", "$(DASK_WORKER_NAME)", "--nthreads=1"],
                    }
                ],
            },
        },
        "scheduler": {
            "spec": {
                "enableServiceLinks": False,
                "containers": [
                    {
                        "name": "scheduler",
                        **container,
                        "args": ["dask", "scheduler"],
                        "ports": [
                            {"name": "tcp-comm", "containerPort": 8786},
                            {"name": "http-dashboard", "containerPort": 8787},
                        ],
                        "readinessProbe": probe,
                    }
                ],
            },
            "service": {
                "type": "ClusterIP",
                "selector": {"dask.org/cluster-name": "@", "dask.org/component": "scheduler"},
                "ports": [
                    {"name": "tcp-comm", "port": 8786, "targetPort": "tcp-comm"},
                    {"name": "http-dashboard", "port": 8787, "targetPort": "http-dashboard"},
                ],
            },
        },
    }


def named(spec: Object, cluster: str) -> Object:
    found: Object = json.loads(json.dumps(spec).replace('"@"', json.dumps(cluster)))
    return found


@contextlib.contextmanager
def dask_kubernetes(cluster: Cluster) -> Iterator[int]:
    """Run the peer's operator for a namespace; give the number of its process."""
    home = CACHE / "bench-dask-kubernetes"
    if not (home / "bin" / "kopf").exists():
        run(UV, "venv", "--clear", "--quiet", str(home))
        run(UV, "pip", "install", "--quiet", f"--python={home}/bin/python", DASK_KUBERNETES)
    crds = next(home.glob("lib/python3*/site-packages/dask_kubernetes/operator/deployment/helm/*/crds"))
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(crds))
    kubectl("wait", "--for=condition=Established", "crd", "--all")
    log = (CACHE / "log" / "dask-kubernetes.log").open("wb")
    config = CACHE / "bench-kubeconfig"
    config.write_text(kubectl("config", "view", "--minify", "--flatten", "--raw"))
    command = [home / "bin" / "kopf", "run", "-m", "dask_kubernetes.operator.controller", "-n", cluster.name]
    process = subprocess.Popen(
        [str(word) for word in command],
        stdout=log,
        stderr=log,
        env={"KUBECONFIG": str(config), "PATH": "/usr/bin:/bin"},
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def connected(cluster: Cluster, service: str) -> int:
    """Return how many workers a scheduler knows."""
    found = cluster.proxied(f"services/{service}:8787/proxy/json/identity.json")
    return len(found["workers"]) if found else 0


def ready(cluster: Cluster, runs: int = 11) -> list[str]:
    """Measure apply to Ready: WorkerClusters, plain manifests with the same pods, DaskClusters.

    Single runs differ by seconds (volumes are made, JVMs start), so fewer runs tell nothing of tenths.
    """
    charts = Charts(TOP / "charts", InProcess())
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"}, "data": {"tasks.py": TASKS}})
    rows = []
    for engine in ("dask", "celery", "spark"):
        for replicas in (0, 2):
            item = worker_cluster(engine, replicas)
            item["metadata"]["namespace"] = cluster.name
            values = cluster_plan.values(item)
            # Where there is a password, the operator makes it; its Secret is applied with the plain manifests.
            if "auth" in values:
                values = {**values, "auth": {"existingSecret": "plain"}}
            objects = charts.render(engine, "plain", cluster.name, values)
            control_kind = "Deployment" if engine == "dask" else "StatefulSet"
            control = {"dask": "scheduler", "spark": "master", "celery": "broker"}[engine]
            ours, plain = [], []
            for _ in range(runs):
                start = time.monotonic()
                cluster.apply(item)
                until(
                    lambda replicas=replicas: (
                        is_true(found := cluster.get("WorkerCluster", "it"), "Ready")
                        and ready_replicas(found) == replicas
                    )
                )
                ours.append(time.monotonic() - start)
                clear(cluster)
                secret = {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": "plain"},
                    "stringData": {"password": "secret"},
                }
                start = time.monotonic()
                if "auth" in values:
                    cluster.apply(secret)
                for one in objects:
                    cluster.apply(one)
                until(
                    lambda control_kind=control_kind, control=control: (
                        ready_replicas(cluster.get(control_kind, f"plain-{control}")) == 1
                    )
                )
                until(lambda replicas=replicas: ready_replicas(cluster.get("Deployment", "plain-worker")) == replicas)
                plain.append(time.monotonic() - start)
                for one in objects:
                    cluster.client.delete(RESOURCES[one["kind"]], one["metadata"]["name"], namespace=cluster.name)
                clear(cluster)
            a, b = statistics.median(ours), statistics.median(plain)
            name = f"{engine}, {replicas} workers"
            rows.append(f"| {name} | {spread(ours)} | {spread(plain)} | {a - b:+.2f} | at most +0.3 | {runs} |")
    return [
        "## Apply to Ready, in seconds",
        "",
        "| cluster | Trireme | plain manifests | difference | wanted | runs |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        *against_dask_clusters(cluster, runs),
    ]


def spread(seconds: list[float]) -> str:
    """Return the median, and the least and the most."""
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def clear(cluster: Cluster) -> None:
    kubectl("delete", "workerclusters", "--all", f"--namespace={cluster.name}")
    until(lambda: not cluster.all("Pod"), 120)


def against_dask_clusters(cluster: Cluster, runs: int) -> list[str]:
    ours, peer = [], []
    with dask_kubernetes(cluster):
        for number in range(runs):
            start = time.monotonic()
            cluster.apply(worker_cluster("dask", 2))
            until(lambda: connected(cluster, "it-scheduler") == 2)
            ours.append(time.monotonic() - start)
            clear(cluster)
            peer.append(dask_cluster(cluster, f"peer{number}", 2))
    a, b = statistics.median(ours), statistics.median(peer)
    return [
        f"Dask, from apply until the scheduler knows two workers: Trireme {spread(ours)} s, "
        f"dask-kubernetes {spread(peer)} s (ratio {a / b:.2f}, wanted: at most 1; {runs} runs each, alternating).",
    ]


TASKS = "from celery import Celery\napp = Celery('tasks')\n"


def dask_cluster(cluster: Cluster, name: str, workers: int) -> float:
    """Make a DaskCluster and delete it; return the seconds until its scheduler knew its workers."""
    body = {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": name, "namespace": cluster.name},
        "spec": named(dask_cluster_spec(workers), name),
    }
    start = time.monotonic()
    cluster.client.create(DASK_CLUSTER.from_dict(body))
    until(lambda: connected(cluster, f"{name}-scheduler") == workers)
    seconds = time.monotonic() - start
    kubectl("delete", "daskclusters", "--all", f"--namespace={cluster.name}")
    until(lambda: not cluster.all("Pod"), 120)
    return seconds


def jobs(cluster: Cluster, count: int = 100, runs: int = 2) -> list[str]:
    """Measure the rate of no-op WorkerJobs on a standing cluster against that of plain Jobs with the same pods."""
    standing(cluster, "celery", 0)
    driver = {"command": ["true"]}
    ours, plain = [], []
    for number in range(runs):
        names = [f"j{number}-{index}" for index in range(count)]
        start = time.monotonic()
        for name in names:
            cluster.apply(worker_job(name, driver, clusterRef={"name": "it"}))
        until(lambda: sum(is_true(item, "Complete") for item in cluster.all("WorkerJob")) == count, 600, 0.5)
        ours.append(count / (time.monotonic() - start))
        template = cluster.get("Job", f"{names[0]}-driver")["spec"]["template"]
        kubectl("delete", "workerjobs", "--all", f"--namespace={cluster.name}")
        until(lambda: not cluster.all("Job"), 300, 0.5)
        until(lambda: len(cluster.all("Pod")) == 1, 300, 0.5)
        labels = {key: value for key, value in template["metadata"]["labels"].items() if key.startswith("app.")}
        spec = {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": template["spec"]}}
        start = time.monotonic()
        for name in names:
            cluster.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
        until(lambda: sum(is_true(item, "Complete") for item in cluster.all("Job")) == count, 600, 0.5)
        plain.append(count / (time.monotonic() - start))
        kubectl("delete", "jobs", "--all", f"--namespace={cluster.name}")
        until(lambda: len(cluster.all("Pod")) == 1, 300, 0.5)
    a, b = statistics.median(ours), statistics.median(plain)
    clear(cluster)
    return [
        f"## {count} no-op jobs at once on a standing cluster",
        "",
        f"WorkerJobs {60 * a:.0f} a minute, plain batch/v1 Jobs with the same pods {60 * b:.0f} a minute: "
        f"ratio {a / b:.2f}, wanted: at least 0.85 ({runs} runs each, alternating).",
    ]


def standing(cluster: Cluster, engine: str, replicas: int) -> None:
    if not cluster.get("ConfigMap", "code"):
        code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"}, "data": {"tasks.py": TASKS}}
        cluster.apply(code)
    cluster.apply(worker_cluster(engine, replicas))
    until(lambda: is_true(cluster.get("WorkerCluster", "it"), "Ready"))


PRINTS = "print(1)"
USES = "from distributed import Client; print(Client().submit(int, 1).result())"


def clusters(cluster: Cluster, count: int = 20) -> list[str]:
    """Measure jobs that each bring a Dask cluster against DaskJobs with the same pods, and jobs on a standing one."""
    one = worker_cluster("dask", 1)["spec"]
    from_none = {**one, "replicas": 0, "autoscaling": {"minReplicas": 0, "maxReplicas": 1}}
    rows = []
    for what, code in (("that print", PRINTS), ("that use their worker", USES)):
        peer = dask_jobs(cluster, count, code)
        standing(cluster, "dask", 1)
        lent = worker_jobs(cluster, count, code, clusterRef={"name": "it"})
        ours = [worker_jobs(cluster, count, code, clusterTemplate={"spec": spec}) for spec in (one, from_none)]
        rows += [
            f"| {count} DaskJobs {what}, a worker each | {peer:.1f} | | |",
            f"| {count} WorkerJobs {what}, a worker each | {ours[0]:.1f} | {ours[0] / peer:.2f} | at most 0.8 |",
            f"| {count} WorkerJobs {what}, 0 to 1 workers each | {ours[1]:.1f} | {ours[1] / peer:.2f} | |",
            f"| {count} WorkerJobs {what}, on a standing cluster | {lent:.1f} | {lent / peer:.2f} | at most 0.33 |",
        ]
    return [
        "## Jobs that bring their cluster",
        "",
        "A DaskJob's program runs at once, scheduler or not; a WorkerJob's once its scheduler answers.",
        "",
        "| | s | against DaskJobs | wanted |",
        "| --- | --- | --- | --- |",
        *rows,
    ]


def worker_jobs(cluster: Cluster, count: int, code: str, **spec: Any) -> float:
    """Return the seconds until so many WorkerJobs, applied at once, are complete."""
    driver = {"command": ["python", "-c", code]}
    start = time.monotonic()
    for index in range(count):
        cluster.apply(worker_job(f"job{index}", driver, **spec))
    until(lambda: sum(is_true(item, "Complete") for item in cluster.all("WorkerJob")) == count, 600, 0.5)
    seconds = time.monotonic() - start
    cluster.empty()
    return seconds


def dask_jobs(cluster: Cluster, count: int, code: str) -> float:
    """Return the seconds until so many DaskJobs, applied at once, are successful."""
    container = {
        "name": "job",
        "image": "trireme/dask:dev",
        "imagePullPolicy": "Never",
        "resources": TINY,
        "args": ["python", "-c", code],
    }

    def done() -> bool:
        items = [dict(item) for item in cluster.client.list(DASK_JOB, namespace=cluster.name)]
        return sum(item.get("status", {}).get("jobStatus") == "Successful" for item in items) == count

    with dask_kubernetes(cluster):
        start = time.monotonic()
        for index in range(count):
            name = f"peer{index}"
            spec = {
                "job": {"spec": {"restartPolicy": "OnFailure", "enableServiceLinks": False, "containers": [container]}},
                "cluster": {"spec": named(dask_cluster_spec(1), name)},
            }
            body = {
                "apiVersion": "kubernetes.dask.org/v1",
                "kind": "DaskJob",
                "metadata": {"name": name, "namespace": cluster.name},
                "spec": spec,
            }
            cluster.client.create(DASK_JOB.from_dict(body))
        until(done, 900, 0.5)
        seconds = time.monotonic() - start
        kubectl("delete", "daskjobs,daskclusters", "--all", f"--namespace={cluster.name}")
        until(lambda: not cluster.all("Pod"), 300, 0.5)
    return seconds


def metrics() -> dict[str, float]:
    """Return the operator's own figures: CPU seconds, memory in bytes, requests and writes (leases left out)."""
    pods = json.loads(kubectl("get", "pods", "--namespace=trireme-system", "--output=json"))["items"]
    name = pods[0]["metadata"]["name"]
    text = kubectl("get", "--raw", f"/api/v1/namespaces/trireme-system/pods/{name}:8080/proxy/metrics")
    requests = writes = 0.0
    for kind, verb, value in re.findall(r'trireme_api_requests_total\{kind="(.*?)",verb="(.*?)"\} (\S+)', text):
        if kind != "Lease":
            requests += float(value)
            writes += float(value) if verb in ("apply", "create", "patch", "delete", "update") else 0
    single = dict(re.findall(r"(?m)^(process_\w+) (\S+)$", text))
    return {
        "cpu": float(single["process_cpu_seconds_total"]),
        "memory": float(single["process_resident_memory_bytes"]),
        "requests": requests,
        "writes": writes,
    }


def cpu_seconds(pid: int) -> float:
    """Return what a process of this machine has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost_of_dask_clusters(cluster: Cluster, count: int) -> str:
    """Measure the CPU time that the peer takes for the same cluster."""
    pause = threading.Event()
    with dask_kubernetes(cluster) as pid:
        # Its first cluster tells that it is up.
        dask_cluster(cluster, "first", 1)
        before = cpu_seconds(pid)
        pause.wait(20)
        idle = (cpu_seconds(pid) - before) / 20
        before, start = cpu_seconds(pid), time.monotonic()
        for index in range(count):
            dask_cluster(cluster, f"one{index}", 1)
        pause.wait(2)
        cpu = (cpu_seconds(pid) - before - idle * (time.monotonic() - start)) / count * 1000
    return f"| the same DaskCluster by dask-kubernetes | {cpu:.0f} ms | |"


def cost(cluster: Cluster, count: int = 10, many: int = 100, idle_seconds: int = 60) -> list[str]:
    """Measure the operator's CPU time and requests a cluster and a job, and what many idle clusters cost."""
    rows = []
    pause = threading.Event()
    before = metrics()
    pause.wait(20)
    idle = (metrics()["cpu"] - before["cpu"]) / 20

    def per_one(what: str, limits: tuple[int, int], work: Callable[[], None]) -> None:
        before, start = metrics(), time.monotonic()
        work()
        pause.wait(2)
        after, seconds = metrics(), time.monotonic() - start
        # What the operator takes while it has nothing to do (lease, probes) is no cluster's cost.
        cpu = (after["cpu"] - before["cpu"] - idle * seconds) / count * 1000
        requests = (after["requests"] - before["requests"]) / count
        rows.append(
            f"| {what} | {cpu:.0f} ms, {requests:.1f} requests | at most {limits[0]} ms, {limits[1]} requests |"
        )

    def some_clusters() -> None:
        # Each with a name of its own: one rendered before would be answered from memory.
        for index in range(count):
            cluster.apply(worker_cluster("dask", 1, name := f"one{index}"))
            until(lambda name=name: ready_replicas(cluster.get("WorkerCluster", name)) == 1)
            clear(cluster)

    def some_jobs() -> None:
        for index in range(count):
            name = f"job{index}"
            cluster.apply(worker_job(name, {"script": "print(1)"}, clusterRef={"name": "it"}))
            until(lambda name=name: is_true(cluster.get("WorkerJob", name), "Complete"))
            kubectl("delete", f"wj/{name}", f"--namespace={cluster.name}")

    per_one("one Dask cluster with a worker, from start to deleted", (60, 15), some_clusters)
    rows.append(cost_of_dask_clusters(cluster, count))
    standing(cluster, "celery", 0)
    per_one("one job on a standing cluster, from start to deleted", (60, 12), some_jobs)
    clear(cluster)
    for index in range(many):
        cluster.apply(worker_cluster("dask", 1, f"idle{index}", values={**NOWHERE, "scheduler": NOWHERE}, suspend=True))
    until(lambda: sum("status" in item for item in cluster.all("WorkerCluster")) == many)
    pause.wait(15)
    before = metrics()
    pause.wait(idle_seconds)
    after = metrics()
    rows.append(f"| memory with {many} clusters | {after['memory'] / 2**20:.0f} MB | at most 150 MB |")
    rows.append(
        f"| writes in {idle_seconds} s with {many} idle clusters | {after['writes'] - before['writes']:.0f} | none |"
    )
    rows.append(f"| CPU meanwhile | {(after['cpu'] - before['cpu']) / idle_seconds:.2%} of a core | |")
    cluster.empty()
    rows.append(f"| CPU with no cluster at all, left out above | {idle:.2%} of a core | |")
    return ["## What the operator itself costs", "", "| what | measured | wanted |", "| --- | --- | --- |", *rows]


PARTS: dict[str, Callable[[Cluster], list[str]]] = {"ready": ready, "jobs": jobs, "clusters": clusters, "cost": cost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="what to measure")
    parts = parser.parse_args().parts or list(PARTS)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for part in parts:
        written, cluster = written_by("make bench"), Cluster()
        try:
            measured = PARTS[part](cluster)
        finally:
            cluster.end()
        note = [
            "",
            f"{written}.",
            f"Medians; the peer is {DASK_KUBERNETES.replace('==', ' ')}, in the same run on the same cluster.",
        ]
        # The title goes first.
        text = "\n".join([measured[0].removeprefix("#"), *note, *measured[1:]]) + "\n"
        (RESULTS / f"{part}.md").write_text(text)
        print(text, flush=True)


if __name__ == "__main__":
    main()
