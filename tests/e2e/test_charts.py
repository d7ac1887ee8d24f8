"""The charts by plain Helm: the same text as in process, and clusters that work with no operator."""

import json

import pytest

from on_cluster import TOP, Kubectl, run, until
from trireme_operator.charts import ChartProblem, HelmCommand, InProcess
from trireme_operator.plan import cluster as cluster_plan

SMALL = {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "20m"}}
SPARK = {"limits": {"cpu": "1", "memory": "1536Mi"}, "requests": {"cpu": "20m"}}
DASK_SUM = """
from distributed import Client
with Client("tcp://it-scheduler:8786") as client:
    print("sum", client.submit(sum, [1, 2, 3]).result(timeout=60))
"""
CELERY_ADD = """
import sys
sys.path.insert(0, "/opt/trireme/code")
from tasks import add
print("sum", add.delay(2, 4).get(timeout=60))
"""
SPARK_SUM = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
print("sum", spark.range(4).groupBy().sum("id").first()[0])
"""
TASKS = """
from celery import Celery
app = Celery("tasks")
@app.task
def add(x, y):
    return x + y
"""
SPECS = [
    {"engine": "dask"},
    {"engine": "dask", "replicas": 0, "dask": {"config": {"distributed": {"scheduler": {"bandwidth": 1000000000}}}}},
    {
        "engine": "spark",
        "spark": {"config": {"spark.sql.shuffle.partitions": "8"}},
        "env": [{"name": "A", "value": "1"}],
    },
    {"engine": "celery", "code": {"configMap": "tasks"}, "celery": {"app": "tasks", "queues": ["a", "b"]}},
    {"engine": "celery", "values": {"broker": {"persistence": {"enabled": True}}, "podAnnotations": {"a": "b: c"}}},
    {
        "engine": "spark",
        "resources": {"limits": {"cpu": "1500m", "memory": "3.5Gi"}},
        "drainSeconds": 7,
        "suspend": True,
    },
]


def values_of(spec):
    metadata = {"name": "numbers", "namespace": "team"}
    return cluster_plan.values({"kind": "WorkerCluster", "metadata": metadata, "spec": spec})


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["engine"])
def test_the_operator_renders_byte_for_byte_what_helm_does(spec):
    chart = TOP / "charts" / spec["engine"]
    by_helm = HelmCommand("helm").render(chart, "numbers", "team", values_of(spec))
    in_process = InProcess().render(chart, "numbers", "team", values_of(spec))

    def bodies(texts):
        # Helm writes where each text comes from, and an end of line after it.
        lines = [[line for line in text.splitlines() if not line.startswith("# Source: ")] for text in texts]
        joined = ["\n".join(found).strip() for found in lines]
        return sorted(part.strip() for text in joined for part in text.split("\n---\n") if part.strip("- \n"))

    assert bodies(by_helm) == bodies(in_process)


def test_both_refuse_in_the_same_words():
    spec = {"engine": "dask", "resources": {"limits": {"cpu": "1", "memory": "1Mi"}}}
    messages = []
    for renderer in (HelmCommand("helm"), InProcess()):
        with pytest.raises(ChartProblem) as problem:
            renderer.render(TOP / "charts" / "dask", "numbers", "team", values_of(spec))
        messages.append(str(problem.value).splitlines()[0])
    assert messages[0] == messages[1]
    assert messages[0].startswith("resources.limits.memory: 1Mi is too small")


def helm(*arguments, namespace):
    return run("helm", "--kube-context=kind-trireme", f"--namespace={namespace}", *arguments).stdout


@pytest.fixture(scope="module")
def no_operator():
    """Stop the operator, to show that nothing needs it, until the end of these tests."""
    system = Kubectl("trireme-system")
    system("scale", "deployment/trireme-operator", "--replicas=0")
    until(lambda: not system("get", "pods", "--output=name").strip())
    yield
    system("scale", "deployment/trireme-operator", "--replicas=1")
    system.wait("deployment/trireme-operator", "condition=Available")


@pytest.mark.alone
@pytest.mark.parametrize(
    ("engine", "values", "component", "script"),
    [
        ("dask", {"resources": SMALL, "scheduler": {"resources": SMALL}}, "scheduler", DASK_SUM),
        ("celery", {"resources": SMALL, "app": "tasks", "code": {"configMap": "tasks"}}, "worker", CELERY_ADD),
        ("spark", {"resources": SPARK, "master": {"resources": SPARK}}, "master", SPARK_SUM),
    ],
)
def test_a_chart_alone_gives_a_cluster_that_works(kubectl, no_operator, tmp_path, engine, values, component, script):
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
    file = tmp_path / "values.json"
    file.write_text(json.dumps({"replicas": 1, **values}))
    install = ("install", "it", TOP / "charts" / engine, f"--values={file}", "--wait", "--timeout=180s")
    helm(*install, namespace=kubectl.namespace)
    pod = kubectl("get", "pods", f"--selector=app.kubernetes.io/component={component}", "--output=name").strip()
    assert "sum 6" in kubectl("exec", pod, "--", "python", "-c", script)
    assert len(kubectl.get("pods")["items"]) == 2
    # An upgrade that changes nothing rolls nothing, and keeps the password.
    before = {item["metadata"]["uid"] for item in kubectl.get("pods")["items"]}
    secrets = [
        item.get("data") for item in kubectl.get("secrets", "--selector=app.kubernetes.io/part-of=trireme")["items"]
    ]
    upgrade = ("upgrade", "it", TOP / "charts" / engine, f"--values={file}", "--wait", "--timeout=180s")
    helm(*upgrade, namespace=kubectl.namespace)
    assert {item["metadata"]["uid"] for item in kubectl.get("pods")["items"]} == before
    after = [
        item.get("data") for item in kubectl.get("secrets", "--selector=app.kubernetes.io/part-of=trireme")["items"]
    ]
    assert after == secrets
    assert len(secrets) == (0 if engine == "dask" else 1)
    helm("uninstall", "it", "--wait", namespace=kubectl.namespace)
    listed = "deployments,statefulsets,pods,services,secrets,networkpolicies,poddisruptionbudgets"
    until(lambda: not kubectl("get", listed, "--output=name", "--ignore-not-found").strip(), seconds=120)
