"""What can't be is refused at admission or told by a condition that names field and fix; good input recovers."""

import pytest
from objects import NOWHERE, cluster, cron_job, group, job, reason

from on_cluster import condition, until

LONG = "n" * 63
SMALL = {"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"cpu": "10m"}}


def nested(levels):
    return {"a": nested(levels - 1)} if levels else {}


TINY = {"resources": SMALL, "dask": {"scheduler": {"resources": SMALL}}}
"""A cluster that has room beside those of other tests."""


def limits(cpu="1", memory="2Gi"):
    return {"limits": {"cpu": cpu, "memory": memory}}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (cluster(engine="ray"), 'spec.engine: Unsupported value: "ray": supported values: "dask", "spark", "celery"'),
        (cluster(spark={}), "spark is for engine spark only"),
        (cluster(dask={}, celery={"app": "x"}), "celery is for engine celery only"),
        (
            cluster(engine="celery", celery={"broker": {"type": "kafka"}}),
            'spec.celery.broker.type: Unsupported value: "kafka": supported values: "redis", "rabbitmq"',
        ),
        (
            cluster(engine="celery", celery={"broker": {"type": "redis", "existingSecret": "a"}}),
            "give either type, for a broker of the cluster's own, or existingSecret",
        ),
        (
            cluster(engine="celery", celery={"broker": {"tls": {"secretName": "a"}}}),
            "tls is for a broker elsewhere: give existingSecret, too",
        ),
        (
            cluster(engine="celery", celery={"pool": "gevent"}),
            'spec.celery.pool: Unsupported value: "gevent": supported values: "prefork", "threads"',
        ),
        (cluster(replicas=-1), "spec.replicas in body should be greater than or equal to 0"),
        (cluster(replicas=10**6), "spec.replicas in body should be less than or equal to 1000"),
        (cluster(replicas="two"), "spec.replicas in body must be of type integer"),
        (cluster(resources=limits(cpu="one")), "spec.resources.limits.cpu in body should match"),
        (cluster(resources=limits(memory="2 GB")), "spec.resources.limits.memory in body should match"),
        (cluster(resources=limits(memory="-1Gi")), "spec.resources.limits.memory in body should match"),
        (cluster(drainSeconds=0), "spec.drainSeconds in body should be greater than or equal to 1"),
        (cluster(image=""), "spec.image in body should be at least 1 chars long"),
        (cluster(sise=3), 'unknown field "spec.sise"'),
        (cluster(dask={"schedular": {}}), 'unknown field "spec.dask.schedular"'),
        (cluster(dask={"spill": {"storageClassName": "fast"}}), "spec.dask.spill.size: Required value"),
        (cluster(dask={"spill": {"size": "big"}}), "spec.dask.spill.size in body should match"),
        (cluster(code={"configMap": "Not A Name"}), "spec.code.configMap in body should match"),
        (cluster(name=LONG), "metadata.name"),
        (cluster(name=LONG + "n"), "metadata.name"),
        (cluster(name="2fast"), "metadata.name in body should match"),
        (group(clusterRef={}), "spec.clusterRef.name: Required value"),
        (group(dask={}, celery={}), "give the block of the cluster's engine only"),
        (group(spark={}), 'unknown field "spec.spark"'),
        (group(name=LONG), "metadata.name"),
        (group(celery={"queues": ["a,b"]}), "spec.celery.queues[0] in body should match"),
        (group(autoscaling={"minReplicas": 2, "maxReplicas": 1}), "minReplicas can't be above maxReplicas"),
        (job(name=LONG), "metadata.name"),
        (job(driver={"args": []}), "give either script, or code, or command"),
        (job(driver={"script": "1", "command": ["x"]}), "give either script, or code, or command"),
        (job(clusterRef={}), "spec.clusterRef.name: Required value"),
        (
            job(clusterRef={"name": "a"}, clusterTemplate={"spec": {"engine": "dask"}}),
            "give either clusterRef or clusterTemplate",
        ),
        (job(clusterTemplate={"spec": {"engine": "dask", "spark": {}}}), "spark is for engine spark only"),
        (job(backoffLimit=-1), "spec.backoffLimit in body should be greater than or equal to 0"),
        (job(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds in body should be greater than or equal to 1"),
        (job(driver={"script": "x" * 70000}), "spec.driver.script: Too long"),
        (job(startDeadlineSeconds=0), "spec.startDeadlineSeconds in body should be greater than or equal to 1"),
        (
            job(driver={"script": "1", "tolerations": [{"effect": "Never"}]}),
            'spec.driver.tolerations[0].effect: Unsupported value: "Never"',
        ),
        (cron_job(schedule="TZ=UTC 0 0 * * *"), "TZ or CRON_TZ in schedule is not supported: use timeZone"),
        (cron_job(timeZone="local"), "timeZone must be a zone of the IANA database"),
        (cron_job(concurrencyPolicy="Queue"), 'spec.concurrencyPolicy: Unsupported value: "Queue"'),
        (cron_job(name="n" * 37), "metadata.name"),
        (
            cron_job(jobTemplate={"spec": {"driver": {"command": ["true"]}}}),
            "give either clusterRef or clusterTemplate",
        ),
        (
            cron_job(jobTemplate={"spec": {**job()["spec"], "driver": {}}}),
            "give either script, or code, or command",
        ),
        (cluster(placement={"mode": "Required"}), "give nodeLabels, podLabels or spread"),
        (cluster(placement={"spread": "Racks"}), 'spec.placement.spread: Unsupported value: "Racks"'),
        (
            cluster(placement={"nodeLabels": {"disk": "very fast"}}),
            "spec.placement.nodeLabels.disk in body should match",
        ),
        (cluster(volumes=[{"name": "tmp", "emptyDir": {}}]), "are names of volumes that are there already"),
        (cluster(volumes=[{"name": "a", "emptyDir": {}}] * 2), "each volume needs a name of its own"),
        (cluster(volumes=[{"name": "a", "hostPath": {"path": "/"}}]), 'unknown field "spec.volumes[0].hostPath"'),
        (
            cluster(volumeMounts=[{"name": "a", "mountPath": "/a"}]),
            "volumeMounts: each needs the name of one of volumes",
        ),
        (
            job(driver={"command": ["x"], "volumeMounts": [{"name": "a", "mountPath": "/a"}]}),
            "volumeMounts: each needs the name of one of volumes",
        ),
    ],
)
def test_refused_at_admission(kubectl, item, message):
    with pytest.raises(AssertionError) as refusal:
        kubectl.apply(item)
    assert message in str(refusal.value)
    assert kubectl("get", "wc,wg,wj,wcj", "--output=name").strip() == ""


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (cluster(), cluster(engine="celery"), "engine can't change: make another cluster"),
        (job(), job(driver={"script": "print(2)"}), "driver can't change: make another job"),
        (job(), job(clusterRef={"name": "other"}), "clusterRef can't change: make another job"),
        (
            job(clusterTemplate={"spec": {"engine": "dask"}}),
            job(clusterTemplate={"spec": {"engine": "celery"}}),
            "engine can't change: make another cluster",
        ),
    ],
)
def test_a_field_that_cannot_change_says_so_at_admission(kubectl, before, after, message):
    kubectl.apply(before)
    with pytest.raises(AssertionError) as refusal:
        kubectl.apply(after)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"resources": limits(memory="100Mi")}, ["resources.limits.memory", "100Mi", "at least 256Mi"]),
        (
            {"dask": {"scheduler": {"resources": limits(memory="10Mi")}}},
            ["scheduler.resources.limits.memory", "192Mi"],
        ),
        ({"values": {"schedular": {}}}, ["schedular"]),
        ({"values": {"imagePullPolicy": 3}}, ["imagePullPolicy", "string"]),
        ({"values": {"replicas": "many"}}, ["replicas"]),
        ({"values": {"tolerations": {"a": 1}}}, ["tolerations", "array"]),
        ({"values": nested(900)}, ["spec.values: nested deeper than 100 levels"]),
        (
            {"dask": {"config": {"distributed": {"worker": {"memory": {"target": 2.0}}}}}},
            ["config/distributed/worker/memory/target"],
        ),
        (
            {"dask": {"config": {"distributed": {"worker": {"memory": {"target": 0.75}}}}}},
            ["distributed.worker.memory.spill is 0.7, below target, 0.75", "they must rise"],
        ),
        (
            {"placement": {"nodeLabels": {"disk": "fast"}}, "values": {"affinity": {"nodeAffinity": {}}}},
            ["placement", "affinity is set, too: leave one of them out"],
        ),
    ],
)
def test_told_by_a_condition(kubectl, operator, spec, words):
    kubectl.apply(cluster(name="well"), cluster(**spec))
    message = kubectl.told("wc/numbers", "InvalidSpec")
    assert [word for word in words if word not in message] == [], message
    assert kubectl("get", "deployments", "--selector=app.kubernetes.io/instance=numbers", "--output=name") == ""
    # Others are not touched, and good input recovers.
    until(lambda: reason(kubectl, "wc/well") not in (None, "InvalidSpec"))
    kubectl.apply(cluster(values={**NOWHERE, "scheduler": NOWHERE}, dask={}, resources=limits()))
    until(lambda: reason(kubectl, "wc/numbers") not in (None, "InvalidSpec"))
    until(lambda: kubectl("get", "deployments", "--selector=app.kubernetes.io/instance=numbers", "--output=name"))


def test_what_the_api_server_refuses(kubectl, operator):
    """The chart takes it, the API server does not: requests above limits."""
    requests = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "2"}}
    kubectl.apply(cluster(resources=requests))
    message = kubectl.told("wc/numbers", "Invalid")
    assert "Deployment numbers-worker" in message
    assert "must be less than or equal to cpu limit" in message
    kubectl.apply(cluster(resources=limits()))
    until(lambda: reason(kubectl, "wc/numbers") not in (None, "Invalid"))
    kubectl("get", "deployment/numbers-worker")


@pytest.mark.parametrize(
    ("values", "expected", "words"),
    [
        ({"image": "trireme/not-there:1", **TINY}, "ImagePullBackOff", ["spec.image", "trireme/not-there:1"]),
        ({"image": "NOT A NAME", **TINY}, "ImagePullBackOff", ["spec.image", "NOT A NAME"]),
        ({"values": {**NOWHERE, "scheduler": NOWHERE}}, "Unschedulable", ["no node takes a pod", "0/2 nodes"]),
        (
            {**TINY, "resources": limits(cpu="900"), "replicas": 1},
            "Unschedulable",
            ["Insufficient cpu", "resources.requests"],
        ),
        (
            {"engine": "celery", "celery": {"broker": {"existingSecret": "nowhere"}}, "resources": SMALL},
            "CreateContainerConfigError",
            ['secret "nowhere" not found: create it, or correct its name'],
        ),
        (
            {"values": {"priorityClassName": "nowhere"}, "dask": {"scheduler": {"resources": SMALL}}},
            "FailedCreate",
            ["no PriorityClass with name nowhere was found: create it, or correct spec.values.priorityClassName"],
        ),
        (
            {"values": {**NOWHERE, "scheduler": {"priorityClassName": "nowhere"}}},
            "FailedCreate",
            ["no PriorityClass with name nowhere", "correct spec.values.scheduler.priorityClassName"],
        ),
    ],
)
def test_why_pods_do_not_run(kubectl, operator, values, expected, words):
    spec = {"values": {"imagePullPolicy": "Never"} if "image" in values else {}, "replicas": 1, **values}
    kubectl.apply(cluster(**spec))
    # Operator and scheduler start beside the test.
    until(lambda: reason(kubectl, "wc/numbers") not in (None, "ControlNotReady"), seconds=180)
    message = kubectl.told("wc/numbers", expected, words=words, seconds=60)
    assert [word for word in words if word not in message] == [], message


def test_code_that_is_not_there(kubectl, operator):
    small = {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "10m"}}
    scheduler = {"scheduler": {"resources": small}}
    kubectl.apply(cluster(code={"configMap": "my-code"}, resources=small, dask=scheduler, values={}))
    until(lambda: reason(kubectl, "wc/numbers"))
    message = kubectl.told("wc/numbers", "CodeNotFound", seconds=60)
    assert message == "spec.code.configMap: there is no ConfigMap my-code in this namespace: create it"
    kubectl("create", "configmap", "my-code", "--from-literal=mine.py=x = 1")
    # The kubelet tries a mount again within two minutes.
    kubectl.wait("wc/numbers", "condition=Ready", seconds=150)


def test_a_volume_that_is_not_there(kubectl, operator):
    small = {"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"cpu": "10m"}}
    spec = {"replicas": 1, "resources": small, "dask": {"scheduler": {"resources": small}}, "values": {}}
    mounts = [{"name": "keys", "mountPath": "/keys"}]
    kubectl.apply(cluster(volumes=[{"name": "keys", "secret": {"secretName": "nowhere"}}], volumeMounts=mounts, **spec))
    until(lambda: reason(kubectl, "wc/numbers"))
    message = kubectl.told("wc/numbers", "FailedMount", seconds=90)
    assert 'volume keys can\'t be mounted: secret "nowhere" not found: create it' in message
    claim = {"name": "keys", "persistentVolumeClaim": {"claimName": "nowhere"}}
    kubectl.apply(cluster(volumes=[claim], volumeMounts=mounts, **spec))
    until(lambda: "create the claim" in condition(kubectl.get("wc/numbers"), "Ready")["message"], seconds=60)


def test_a_quota_that_is_used_up(kubectl, operator):
    kubectl("create", "quota", "small", "--hard=pods=0")
    kubectl.wait("quota/small", "jsonpath={.status.hard.pods}=0")
    kubectl.apply(cluster(engine="celery"), cluster(name="numbers-dask"))
    for name in ("numbers", "numbers-dask"):
        until(lambda name=name: reason(kubectl, f"wc/{name}"))
        message = kubectl.told(f"wc/{name}", "QuotaExceeded", seconds=30)
        assert "exceeded quota: small" in message
        assert "pods=0" in message


def test_a_cluster_that_is_not_there(kubectl, operator):
    kubectl.apply(job())
    message = kubectl.told("wj/mean", "NotFound", "ClusterReady")
    assert message == "spec.clusterRef.name: there is no WorkerCluster numbers in this namespace: create it"
    kubectl.apply(cluster())
    until(lambda: reason(kubectl, "wj/mean", "ClusterReady") != "NotFound")


def test_a_cluster_that_goes_while_a_job_waits_for_it(kubectl, operator):
    kubectl.apply(cluster(), job())
    until(lambda: reason(kubectl, "wj/mean", "ClusterReady") not in (None, "NotFound"))
    kubectl("delete", "wc/numbers")
    until(lambda: reason(kubectl, "wj/mean", "ClusterReady") == "NotFound")


def test_a_name_that_is_taken(kubectl, operator):
    kubectl.apply(cluster(name="mean"))
    kubectl.apply(job(clusterTemplate={"spec": {"engine": "dask"}}))
    message = kubectl.told("wj/mean", "NameTaken", "ClusterReady")
    assert "delete it, or name this job otherwise" in message
