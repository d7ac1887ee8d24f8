"""A real Prometheus beside a cluster of each engine: it finds them by the monitors, and what is asked for is there."""

import json
import re
import subprocess
from urllib.parse import quote
from urllib.request import urlopen

import pytest
import yaml

from monitoring import FILES, asked, panels, rules
from on_cluster import CONTEXT, TOP, Kubectl, run, until

pytestmark = pytest.mark.alone  # the metrics of the whole cluster are read

SMALL = {"limits": {"cpu": "1", "memory": "384Mi"}, "requests": {"cpu": "20m", "memory": "128Mi"}}
JVM = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "20m", "memory": "256Mi"}}
SPECS = {
    "dask": {"resources": SMALL, "dask": {"scheduler": {"resources": SMALL}}},
    "spark": {"resources": JVM, "spark": {"master": {"resources": SMALL}}},
    "celery": {
        "resources": SMALL,
        "code": {"configMap": "tasks"},
        "celery": {"app": "tasks", "broker": {"resources": SMALL}},
        "values": {"monitor": {"enabled": True}},
    },
}
# Runs until it is told to end, so that its metrics can be read.
SPARK = """
import os, time
from pyspark.sql import SparkSession

spark = SparkSession.builder.appName("counts").getOrCreate()
spark.range(100).count()
print("counting", flush=True)
while not os.path.exists("/tmp/stop"):
    spark.range(100).count()
    time.sleep(0.5)  # a pause between two pieces of work: nothing is waited for
spark.stop()
"""
TASKS = """
from celery import Celery
app = Celery("tasks")

@app.task
def add(x, y):
    return x + y
"""
ADD = "from tasks import add\nprint(add.delay(2, 4).get(timeout=60))\n"


def cluster(engine):
    spec = {"engine": engine, "replicas": 1, **SPECS[engine]}
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerCluster", "metadata": {"name": engine}, "spec": spec}


def job(name, cluster, script, resources=SMALL):
    spec = {"clusterRef": {"name": cluster}, "driver": {"script": script, "resources": resources}}
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerJob", "metadata": {"name": name}, "spec": spec}


def rendered():
    """Return what the chart has for prometheus-operator."""
    enabled = [f"--set=metrics.{name}.enabled=true" for name in ("serviceMonitor", "podMonitor")]
    text = run("helm", "template", "trireme", TOP / "charts" / "trireme", "--namespace=trireme-system", *enabled).stdout
    objects = [item for item in yaml.safe_load_all(text) if item]
    return [item for item in objects if item["kind"] in ("ServiceMonitor", "PodMonitor")]


def snake(name):
    return re.sub(r"([A-Z])", lambda found: f"_{found[1].lower()}", name)


def scrape(monitor, endpoint, namespaces):
    """Return the configuration that prometheus-operator makes of a monitor's endpoint, as far as ours use it."""
    spec = monitor["spec"]
    chosen = {label: [value] for label, value in spec["selector"]["matchLabels"].items()}
    chosen |= {rule["key"]: rule["values"] for rule in spec["selector"].get("matchExpressions", [])}
    keep = [
        {"source_labels": [f"__meta_kubernetes_pod_label_{re.sub('[^a-z]', '_', label)}"], "regex": "|".join(values)}
        for label, values in chosen.items()
    ]
    if "port" in endpoint:
        keep.append({"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": endpoint["port"]})
    given = [{snake(key): value for key, value in rule.items()} for rule in endpoint.get("relabelings", [])]
    return {
        "job_name": f"{monitor['metadata']['name']}{endpoint['path']}",
        "metrics_path": endpoint["path"],
        "scrape_interval": "2s",
        "honor_labels": endpoint.get("honorLabels", False),
        "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": namespaces}}],
        "relabel_configs": [
            *({**rule, "action": "keep"} for rule in keep),
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
            *given,
        ],
    }


def configuration(namespace):
    found = []
    for monitor in rendered():
        operator = monitor["kind"] == "ServiceMonitor"
        endpoints = monitor["spec"]["endpoints" if operator else "podMetricsEndpoints"]
        namespaces = ["trireme-system"] if operator else [namespace]
        found += [scrape(monitor, endpoint, namespaces) for endpoint in endpoints]
    return {"scrape_configs": found, "rule_files": ["/etc/prometheus/alerts.yaml"]}


def prometheus():
    container = {
        "name": "prometheus",
        "image": "trireme/test:dev",
        "command": ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/tmp/data"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/prometheus"}, {"name": "tmp", "mountPath": "/tmp"}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 1},
        "resources": SMALL,
    }
    volumes = [{"name": "config", "configMap": {"name": "prometheus"}}, {"name": "tmp", "emptyDir": {}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "prometheus"},
        "spec": {"containers": [container], "volumes": volumes},
    }


class Prometheus:
    """Asks by way of the API server, through one `kubectl proxy`."""

    def __init__(self, kubectl, proxy):
        self.namespace = kubectl.namespace
        self._base = f"http://{proxy}/api/v1/namespaces/{kubectl.namespace}/pods/prometheus:9090/proxy/api/v1/"

    def get(self, path):
        with urlopen(self._base + path, timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        return self.get(f"query?query={quote(expression)}")["result"]

    def names(self):
        """Return every metric that is served: those with samples, and those that are only announced so far."""
        announced = {(one["metric"], one["type"]) for one in self.get("targets/metadata")}
        found = set(self.get("label/__name__/values")) | {name for name, _ in announced}
        found |= {f"{name}_total" for name, kind in announced if kind == "counter"}
        return found | {
            f"{name}_{end}" for name, kind in announced if kind == "histogram" for end in ("bucket", "count")
        }


@pytest.fixture(scope="module")
def kubectl():
    kubectl = Kubectl("monitoring-test")
    kubectl("delete", "namespace", kubectl.namespace, "--ignore-not-found")
    kubectl("create", "namespace", kubectl.namespace)
    account = f"--serviceaccount={kubectl.namespace}:default"
    kubectl("delete", "clusterrolebinding", kubectl.namespace, "--ignore-not-found")
    kubectl("create", "clusterrolebinding", kubectl.namespace, "--clusterrole=view", account)
    yield kubectl
    kubectl("delete", "clusterrolebinding", kubectl.namespace)
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.fixture(scope="module")
def measured(kubectl):
    """Start all, and lend what measures it."""
    kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
    files = {
        "prometheus.yml": json.dumps(configuration(kubectl.namespace)),
        "alerts.yaml": (FILES / "alerts.yaml").read_text(),
        "alerts_test.yaml": (TOP / "tests" / "e2e" / "alerts_test.yaml").read_text(),
    }
    kubectl("create", "configmap", "prometheus", *(f"--from-literal={name}={text}" for name, text in files.items()))
    kubectl.apply(prometheus(), *map(cluster, SPECS))
    for engine in SPECS:
        kubectl.wait(f"wc/{engine}", "condition=Ready", seconds=180)
    kubectl.apply(job("counts", "spark", SPARK, JVM), job("sum", "celery", ADD))
    kubectl.wait("wj/counts", "condition=DriverRunning", seconds=120)
    until(lambda: "counting" in kubectl("logs", "job/counts-driver", check=False), seconds=120)
    kubectl.wait("wj/sum", "condition=Complete", seconds=120)
    kubectl.wait("pod/prometheus", "condition=Ready")
    with subprocess.Popen(
        ["kubectl", f"--context={CONTEXT}", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True
    ) as proxy:
        # "Starting to serve on 127.0.0.1:41234"
        yield Prometheus(kubectl, proxy.stdout.readline().split()[-1])
        proxy.terminate()


def test_every_pod_is_found_and_answers(measured):
    jobs = {one["job_name"] for one in configuration("x")["scrape_configs"]}

    def healthy():
        targets = measured.get("targets?state=active")["activeTargets"]
        return {target["scrapePool"] for target in targets if target["health"] == "up"} == jobs

    until(healthy, seconds=60)


def test_every_metric_that_dashboard_and_alerts_ask_for_is_there(measured):
    until(lambda: not asked() - measured.names() or None, seconds=60)


def test_the_operator_tells_of_clusters_and_jobs(measured):
    here = f'namespace="{measured.namespace}"'
    until(lambda: len(measured.query(f'trireme_condition{{{here}, condition="Ready"}} == 1')) == len(SPECS))
    until(lambda: measured.query(f'trireme_workers{{{here}, name="dask", state="ready"}} == 1'))
    until(lambda: measured.query(f'trireme_jobs{{{here}, engine="celery", state="Complete"}} == 1'))
    until(lambda: measured.query(f'trireme_jobs_ended_total{{{here}, engine="celery", result="Complete"}} == 1'))


def test_engines_metrics_say_whose_they_are(measured):
    until(lambda: measured.query('dask_scheduler_workers{engine="dask", workercluster="dask"}'))
    until(lambda: measured.query('metrics_master_aliveWorkers_Value{workercluster="spark"} == 1'))
    until(lambda: measured.query('metrics_executor_activeTasks{workercluster="spark", component="driver"}'))
    until(lambda: measured.query('celery_queue_length{workercluster="celery"}'))


def test_every_query_of_the_dashboard_is_understood(measured):
    given = {"$namespace": ".*", "$name": ".*", "$__rate_interval": "1m"}
    for queries in panels().values():
        for query in queries:
            for name, value in given.items():
                query = query.replace(name, value)
            measured.query(query)


def test_the_alerts_are_loaded_and_fire_when_they_should(measured, kubectl):
    loaded = {rule["name"] for group in measured.get("rules")["groups"] for rule in group["rules"]}
    assert loaded == set(rules())
    kubectl("exec", "prometheus", "--", "promtool", "check", "rules", "/etc/prometheus/alerts.yaml")
    tried = yaml.safe_load((TOP / "tests" / "e2e" / "alerts_test.yaml").read_text())["tests"]
    assert {case["alertname"] for test in tried for case in test["alert_rule_test"]} == set(rules())
    kubectl("exec", "prometheus", "--", "promtool", "test", "rules", "/etc/prometheus/alerts_test.yaml")
