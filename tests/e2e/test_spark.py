"""What Spark clusters promise, by their samples: partitions, recovery, fair shares, secrets, Connect, history."""

import json
import re
import uuid

import pytest

from on_cluster import TOP, Kubectl, until

SMALL = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "20m"}}
SESSION = "from pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\n"


@pytest.fixture(scope="module")
def shared():
    """Lend kubectl in one namespace for all of these tests, so that what one waits for starts while another runs."""
    kubectl = Kubectl(f"spark-{uuid.uuid4().hex[:6]}")
    kubectl("create", "namespace", kubectl.namespace)
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false", "--ignore-not-found")


def sample(kubectl, name):
    kubectl("apply", "--filename", TOP / "manifests" / "samples" / "spark" / f"{name}.yaml")


def job(name, cluster, script, **driver):
    spec = {"clusterRef": {"name": cluster}, "driver": {"resources": SMALL, "script": script, **driver}}
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerJob", "metadata": {"name": name}, "spec": spec}


def output(kubectl, name, seconds=240):
    kubectl.wait(f"wj/{name}", "condition=Complete", seconds=seconds)
    return kubectl.get(f"wj/{name}")["status"]["output"].splitlines()


def endpoints(kubectl, name):
    return {point["name"]: point["url"] for point in kubectl.get(f"wc/{name}")["status"]["endpoints"]}


def page(kubectl, pod, url):
    """Read a page of Spark's from inside a pod."""
    script = f"import urllib.request; print(urllib.request.urlopen({url!r}).read().decode())"
    return json.loads(kubectl("exec", pod, "--", "python", "-c", script))


def test_skewed_and_repartitioned(shared):
    sample(shared, "partitions")
    printed = output(shared, "partitions")
    largest = {name.strip(): int(share) for name, share in re.findall(r"(?m)^(\D+?) +(\d+)%", "\n".join(printed))}
    assert largest["by key"] >= 90
    assert largest["by key and salt"] <= 60
    assert largest["evenly"] <= 14
    merged = dict(re.findall(r"adaptive (\w+): (\d+)", "\n".join(printed)))
    assert merged["false"] == "16"
    assert int(merged["true"]) < 16


def test_a_killed_master_a_stranger_and_a_fair_share(shared):
    """While a job runs its master is killed; then another job gets its share, and one that knows no secret nothing."""
    sample(shared, "recovery")
    master = "http://localhost:8080/json/"

    def running():
        try:
            found = page(shared, "pod/lasting-master-0", master)
        except AssertionError:
            return None
        (application,) = [one for one in found["activeapps"] if one["name"] == "lasting"] or [None]
        return found["status"] == "ALIVE" and application and application["cores"] and application

    before = until(running, seconds=120)
    pod = shared.get("pod/lasting-master-0")["metadata"]["uid"]
    shared("delete", "pod/lasting-master-0", "--grace-period=0", "--force")
    wrong = [{"name": "_SPARK_AUTH_SECRET", "value": "a-guess"}]
    shared.apply(
        job("second", "lasting", f"{SESSION}print(spark.range(4).groupBy().sum('id').first()[0])"),
        job("stranger", "lasting", f"{SESSION}print('let in')", env=wrong),
    )
    until(lambda: shared("get", "pod/lasting-master-0", "--output=jsonpath={.metadata.uid}", check=False) != pod)
    after = until(running, seconds=90)
    assert after["id"] == before["id"]
    assert after["cores"] == 1
    assert output(shared, "second") == ["6"]
    # The first one is not done: they ran side by side.
    assert shared.get("wj/lasting-sum")["status"]["state"] == "Running"
    assert output(shared, "lasting-sum")[-1] == "435"
    assert shared.get("wj/lasting-sum")["status"]["attempts"] == 1
    until(lambda: "SaslException" in shared("logs", "job/stranger-driver", "--tail=-1", check=False), seconds=90)
    assert "let in" not in shared("logs", "job/stranger-driver", "--tail=-1")
    known = page(shared, "pod/lasting-master-0", master)
    assert {one["name"] for one in known["activeapps"] + known["completedapps"]} == {"lasting", "pyspark-shell"}
    assert len(known["completedapps"]) == 2
    shared("delete", "wj,wc", "--all")
    # With the cluster goes its volume.
    until(lambda: not shared("get", "persistentvolumeclaims", "--output=name").strip(), seconds=120)


def test_a_client_of_spark_connect(shared):
    sample(shared, "connect")
    assert output(shared, "remote-average-age") == ["java: None", "2.0"]
    assert endpoints(shared, "remote")["connect"] == f"sc://remote-connect.{shared.namespace}.svc:15002"
    # Code of the client's own runs on the workers; and the server takes nobody who has no token.
    script = f"""{SESSION}
from pyspark.sql.functions import udf
print(spark.range(3).select(udf(lambda number: number + 40, "long")("id").alias("x")).groupBy().max("x").first()[0])
"""
    host = endpoints(shared, "remote")["connect"]
    stranger = [{"name": "SPARK_REMOTE", "value": host}]
    shared.apply(job("own-code", "remote", script), job("no-token", "remote", script, env=stranger))
    assert output(shared, "own-code") == ["42"]
    shared.wait("wj/no-token", "condition=Failed")
    assert "No authentication token provided" in shared.get("wj/no-token")["status"]["output"]
    shared("delete", "wj,wc", "--all", "--wait=false")


def test_the_history_of_a_driver_that_is_gone(shared):
    sample(shared, "history")
    assert output(shared, "logged-sum") == ["4950"]
    shared("delete", "wj/logged-sum")
    url = endpoints(shared, "logged")["history"]
    assert url == f"http://logged-history.{shared.namespace}.svc:18080"
    shared("rollout", "status", "deployment/logged-history", "--timeout=120s")

    def known():
        found = page(shared, "deployment/logged-history", f"{url}/api/v1/applications")
        return [one["name"] for one in found if one["attempts"][0]["completed"]]

    assert until(known) == ["sum"]
    shared("delete", "wj,wc", "--all", "--wait=false")
