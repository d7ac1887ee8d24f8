"""Pods near their data, and reads that stay on the node, by the engines' own counts."""

import json

import pytest

from on_cluster import TOP, until

NODES = ("trireme-control-plane", "trireme-worker")
HOST = "kubernetes.io/hostname"
SMALL = {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "20m"}}
# Where only the place of a pod matters, it need not run.
NO_IMAGE = {"image": "trireme/nowhere:1", "resources": SMALL, "values": {"imagePullPolicy": "Never"}}


def custom(kind, name, **spec):
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def pod(name, node, **container):
    resources = {"limits": {"cpu": "100m", "memory": "32Mi"}, "requests": {"cpu": "10m"}}
    container = {"name": "it", "image": "trireme/dask:dev", "resources": resources, **container}
    spec = {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def places(kubectl, cluster):
    """Return the nodes of a cluster's workers, an empty name for one that has none."""
    selector = f"--selector=app.kubernetes.io/instance={cluster},app.kubernetes.io/component=worker"
    return sorted(item["spec"].get("nodeName", "") for item in kubectl.get("pods", selector)["items"])


def test_where_workers_are_placed(kubectl):
    """On the nodes that have the data, beside the pods that serve it, and on every node."""
    kubectl.apply(pod("store", NODES[1], image="trireme/nowhere:1", imagePullPolicy="Never"))
    near = {HOST: NODES[0]}
    for name, placement, expected in (
        ("nodes", {"nodeLabels": near, "mode": "Required"}, [NODES[0]] * 2),
        ("pods", {"podLabels": {"app": "store"}, "mode": "Required"}, [NODES[1]] * 2),
        ("spread", {"spread": "Nodes", "mode": "Required"}, [*NODES]),
        # The last, because a node that is full is not preferred: those above wait until there is room.
        ("nodes-preferred", {"nodeLabels": near}, [NODES[0]] * 2),
    ):
        dask = {"scheduler": {"resources": SMALL}}
        kubectl.apply(
            custom("WorkerCluster", name, engine="dask", replicas=2, placement=placement, dask=dask, **NO_IMAGE)
        )
        found = until(lambda name=name: "" not in (found := places(kubectl, name)) and len(found) == 2 and found)
        assert found == expected


def test_workers_go_to_the_pod_that_serves_the_data(kubectl):
    """The sample as it stands."""
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("apply", "--filename", TOP / "manifests" / "samples" / "dask" / "near-data.yaml")
    kubectl.wait("wj/near-data", "condition=Complete")
    output = kubectl.get("wj/near-data")["status"]["output"]
    assert output.splitlines()[-1] == "2 of 2 workers are on the node of the data"


def test_a_claim_is_read_by_workers_on_its_node(kubectl):
    """The sample as it stands; a claim that is on a node takes driver and workers there."""
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("apply", "--filename", TOP / "manifests" / "samples" / "dask" / "shared-volume.yaml")
    kubectl.wait("wj/shared-volume", "condition=Complete")
    lines = kubectl.get("wj/shared-volume")["status"]["output"].splitlines()
    assert lines[-2:] == ["sum 31996000, read by 2 workers", "8 of 8 files were read on the driver's node"]


@pytest.fixture
def partitions(kubectl):
    """Write four files on each node, which no other node has; return the folder."""
    folder = f"/tmp/{kubectl.namespace}"
    command = "umask 022; for i in 0 1 2 3; do echo $NODE_NAME > /data/$NODE_NAME-$i; done; exec sleep infinity"
    mounted = {
        "command": ["sh", "-c", command],
        "env": [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    for node in NODES:
        writer = pod(f"on-{node}", node, **mounted)
        writer["spec"]["volumes"] = [{"name": "data", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}]
        kubectl.apply(writer)
        kubectl.wait(f"pod/on-{node}", "condition=Ready")
    yield folder
    for node in NODES:
        kubectl("exec", f"on-{node}", "--", "sh", "-c", "rm /data/*")


def on_nodes(folder):
    """Return chart values by which workers have a folder of their node."""
    volume = {"name": "data", "hostPath": {"path": folder, "type": "Directory"}}
    return {"volumes": [volume], "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}]}


DASK = """
import json, os
from distributed import Client, get_task_stream


def read(path):
    with open(path) as file:
        return file.read().strip()


with Client() as client:
    client.wait_for_workers(2)
    nodes = client.run(os.getenv, "NODE_NAME")
    listed = client.run(os.listdir, "/data")
    with get_task_stream() as stream:
        reads = [
            client.submit(read, f"/data/{name}", key=f"{nodes[worker]} {name}", resources={f"node:{nodes[worker]}": 1})
            for worker, names in listed.items()
            for name in names
        ]
        found = client.gather(reads)
    ran = {task["key"]: nodes[task["worker"]] for task in stream.data}
    came = client.run(lambda dask_worker: dask_worker.state.transfer_incoming_count_total)
    print(json.dumps({"found": sorted(found), "ran": ran, "came": sum(came.values())}))
"""


def test_dask_reads_each_file_on_the_node_that_has_it(kubectl, partitions):
    """By the scheduler's task stream, which says on which worker each task ran."""
    cluster = custom(
        "WorkerCluster",
        "local",
        engine="dask",
        replicas=2,
        placement={"spread": "Nodes", "mode": "Required"},
        resources=SMALL,
        dask={"scheduler": {"resources": SMALL}},
        values=on_nodes(partitions),
    )
    kubectl.apply(cluster)
    kubectl.apply(
        custom("WorkerJob", "local", clusterRef={"name": "local"}, driver={"resources": SMALL, "script": DASK})
    )
    kubectl.wait("wj/local", "condition=Complete")
    said = json.loads(kubectl.get("wj/local")["status"]["output"].splitlines()[-1])
    assert said["found"] == sorted(NODES * 4)
    assert len(said["ran"]) == 8
    assert [key for key, node in said["ran"].items() if not key.startswith(f"{node} ")] == []
    assert said["came"] == 0


# Spark's file sources tell no place of local files, so the program says itself where each is: by the address of the
# executor on that node, which is what Spark compares with.
SPARK = """
import json, os, threading
from urllib.request import urlopen
from pyspark import RDD
from pyspark.serializers import UTF8Deserializer
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
context = spark.sparkContext
jvm, scala = context._jvm, context._jsc.sc()
while scala.getExecutorMemoryStatus().size() < 3:  # two, and the driver
    threading.Event().wait(0.2)  # between two questions: nothing tells when executors come


def look(_):
    return [(os.environ["NODE_NAME"], os.environ["SPARK_LOCAL_HOSTNAME"], sorted(os.listdir("/data")))]


def read(path):
    with open(path) as file:
        return file.read().strip(), os.environ["NODE_NAME"]


def counted(what, rdd):
    context.setJobGroup(what, what)
    found = rdd.collect()
    while not (jobs := context.statusTracker().getJobIdsForGroup(what)):
        threading.Event().wait(0.2)  # between two questions: what is told follows what was done
    (stage,) = context.statusTracker().getJobInfo(jobs[0]).stageIds
    url = f"{context.uiWebUrl}/api/v1/applications/{context.applicationId}/stages/{stage}/0/taskList"
    while True:
        with urlopen(url) as answer:
            tasks = json.load(answer)
        if len(tasks) == rdd.getNumPartitions():
            return found, sorted(task["taskLocality"] for task in tasks)
        threading.Event().wait(0.2)


executors = {}
while len(executors) < 2:
    found = context.parallelize(range(8), 8).mapPartitions(look).collect()
    executors |= {node: (host, names) for node, host, names in found}
pairs = jvm.java.util.ArrayList()
for node, (host, names) in executors.items():
    for name in names:
        hosts = jvm.java.util.ArrayList()
        hosts.add(host)
        pairs.add(jvm.scala.Tuple2(f"/data/{name}", jvm.PythonUtils.toSeq(hosts)))
tag = getattr(getattr(jvm.scala.reflect, "ClassTag$"), "MODULE$").AnyRef()
files = RDD(scala.makeRDD(jvm.PythonUtils.toSeq(pairs), tag).toJavaRDD(), context, UTF8Deserializer())
rows = files.map(read).cache()
first, by_node = counted("first", rows)
again, by_process = counted("again", rows)
print(json.dumps({"right": sum(said == node for said, node in first + again), "first": by_node, "again": by_process}))
"""


def test_spark_reads_each_file_on_the_node_that_has_it(kubectl, partitions):
    """By the locality of each task, as Spark's own REST API tells it; what is kept is read in its process then."""
    resources = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "50m"}}
    spec = {
        "engine": "spark",
        "replicas": 2,
        "placement": {"spread": "Nodes", "mode": "Required"},
        "resources": resources,
        # An executor on each node from the start, and no task that goes elsewhere because its place is busy for 3 s.
        "spark": {"config": {"spark.dynamicAllocation.enabled": "false", "spark.locality.wait": "5m"}},
        "values": on_nodes(partitions),
    }
    driver = {"resources": resources, "script": SPARK}
    kubectl.apply(custom("WorkerJob", "local", clusterTemplate={"spec": spec}, driver=driver))
    kubectl.wait("wj/local", "condition=DriverRunning", seconds=180)
    kubectl.wait("wj/local", "condition=Complete", seconds=180)
    said = json.loads(kubectl.get("wj/local")["status"]["output"].splitlines()[-1])
    assert said == {"right": 16, "first": ["NODE_LOCAL"] * 8, "again": ["PROCESS_LOCAL"] * 8}
