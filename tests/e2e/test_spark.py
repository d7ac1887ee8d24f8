"""What Spark clusters promise, by their samples: partitions, recovery, fair shares, secrets, Connect, history."""

import json
import re

import pytest

from on_cluster import CONTEXT, TOP, namespace, run, until

SMALL = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "20m"}}
SESSION = "from pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\n"
OUTSIDE = """
import sys
import trireme

name, context, namespace = sys.argv[1:]
with trireme.Cluster.get(name, context=context, namespace=namespace) as cluster:
    print("counted", cluster.spark().range(5).count())
"""


# A job of a second thread is done before a longer one that began first. Between jobs of which none runs anything, as on
# one core, Spark prefers the first.
TURNS = f"""
import threading, time
{SESSION}
context, done = spark.sparkContext, []

def slow(number):
    time.sleep(0.5)  # this is the work: nothing is waited for
    return number

def run(name, tasks):
    context.parallelize(range(tasks), tasks).map(slow).count()
    done.append(name)

longer = threading.Thread(target=run, args=["longer", 80])
longer.start()
tracker = context.statusTracker()
while not any(tracker.getStageInfo(stage).numActiveTasks for stage in tracker.getActiveStageIds()):
    time.sleep(0.1)  # between two looks: nothing tells
run("shorter", 4)
longer.join()
print(*done)
"""


@pytest.fixture(scope="module")
def shared():
    """Lend kubectl in one namespace for all of these tests, so that what one waits for starts while another runs."""
    with namespace("spark", restricted=True) as kubectl:
        yield kubectl


def test_jobs_of_one_application_take_turns(shared):
    """As the cluster's configuration says."""
    spark = {"config": {"spark.scheduler.mode": "FAIR"}, "master": {"resources": SMALL}}
    spec = {"engine": "spark", "replicas": 1, "resources": {**SMALL, "limits": {"cpu": "2", "memory": "1536Mi"}}}
    turns = job("turns", "turns", TURNS)
    turns["spec"]["clusterTemplate"] = {"spec": {**spec, "spark": spark}}
    del turns["spec"]["clusterRef"]
    shared.apply(turns)
    assert output(shared, "turns")[-1] == "shorter longer"


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
    """Two jobs share a cluster, their master is killed, and both go on; one that knows no secret gets nothing."""
    sample(shared, "recovery")
    slow = "import time\ndef slow(number):\n    time.sleep(1)\n    return number\n"
    wrong = [{"name": "_SPARK_AUTH_SECRET", "value": "a-guess"}]
    shared.apply(
        job(
            "second", "lasting", f"{slow}{SESSION}print(spark.sparkContext.parallelize(range(50), 50).map(slow).sum())"
        ),
        job("stranger", "lasting", f"{SESSION}print('let in')", env=wrong),
    )

    def running():
        """Return the applications' ids and cores once two of them have some."""
        try:
            found = page(shared, "pod/lasting-master-0", "http://localhost:8080/json/")
        except AssertionError:
            return None
        cores = {one["id"]: one["cores"] for one in found["activeapps"] if one["cores"]}
        return found["status"] == "ALIVE" and len(cores) == 2 and cores

    shared.wait("wc/lasting", "condition=Ready", seconds=240)
    before = until(running, seconds=150)
    assert set(before.values()) == {1}
    pod = shared.get("pod/lasting-master-0")["metadata"]["uid"]
    shared("delete", "pod/lasting-master-0", "--grace-period=0", "--force")
    until(lambda: shared("get", "pod/lasting-master-0", "--output=jsonpath={.metadata.uid}", check=False) != pod)
    assert output(shared, "second")[-1] == "1225"
    assert output(shared, "lasting-sum")[-1] == "1770"
    assert {shared.get(f"wj/{name}")["status"]["attempts"] for name in ("second", "lasting-sum")} == {1}
    # They kept their executors.
    told = shared(
        "logs", "--selector=app.kubernetes.io/instance=lasting,app.kubernetes.io/component=worker", "--tail=-1"
    )
    assert sorted(re.findall(r"Asked to launch executor (\S+)/\d+ ", told)) == sorted(before)
    until(lambda: "SaslException" in shared("logs", "job/stranger-driver", "--tail=-1", check=False), seconds=90)
    assert "let in" not in shared("logs", "job/stranger-driver", "--tail=-1")
    # The new master knows those of the old one, and no third.
    shared.wait("pod/lasting-master-0", "condition=Ready")
    known = page(shared, "pod/lasting-master-0", "http://localhost:8080/json/")
    assert {one["id"] for one in known["activeapps"] + known["completedapps"]} == before.keys()
    shared("delete", "wj,wc", "--all")
    # With the cluster goes its volume.
    until(lambda: not shared("get", "persistentvolumeclaims", "--output=name").strip(), seconds=120)


def test_a_client_of_spark_connect(shared, tmp_path):
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
    from_outside(shared, tmp_path / "outside.py")
    shared("delete", "wj,wc", "--all", "--wait=false")


def from_outside(shared, script):
    """Connect from this machine, whose Python may be another one than the workers'."""
    # PySpark takes `python -c` for its own tests.
    script.write_text(OUTSIDE)
    [version] = re.findall(r"(?m)^(pyspark-client==\S+)", (TOP / "images/spark-client/requirements.txt").read_text())
    here = (TOP / "lab/uv.sh", "run", "--frozen", "--quiet", f"--with={version}", "python")
    done = run(*here, script, "remote", CONTEXT, shared.namespace)
    assert "counted 5" in done.stdout
    told = run(
        *here, "-m", "trireme", "doctor", "remote", f"--context={CONTEXT}", f"--namespace={shared.namespace}"
    ).stdout
    there = shared("exec", "deployment/remote-worker", "--", "python", "--version").split()[1]
    mine = run(*here, "--version").stdout.split()[1]
    differing = mine.rpartition(".")[0] != there.rpartition(".")[0]
    assert (f"python {mine} here, {there} in the cluster: functions of yours (UDFs) fail" in told) == differing


def test_the_history_of_a_driver_that_is_gone(shared):
    sample(shared, "history")
    assert output(shared, "logged-sum")[-1] == "4950"
    shared("delete", "wj/logged-sum")
    url = endpoints(shared, "logged")["history"]
    assert url == f"http://logged-history.{shared.namespace}.svc:18080"
    shared("rollout", "status", "deployment/logged-history", "--timeout=120s")

    def known():
        try:
            found = page(shared, "deployment/logged-history", f"{url}/api/v1/applications")
        except AssertionError:
            # It is ready before its Service leads to it.
            return None
        return [one["name"] for one in found if one["attempts"][0]["completed"]]

    assert until(known) == ["sum"]
    shared("delete", "wj,wc", "--all", "--wait=false")
