"""Jobs that are tried again, wait for too long, are suspended, started by a schedule, short of quota, or preempted.

The node that is deleted is a Node without a machine, because other tests need those that the cluster has.
"""

import json
from datetime import UTC, datetime

import pytest

from on_cluster import CONTEXT, TOP, condition, namespace, run, until

SAMPLES = TOP / "manifests" / "samples" / "jobs"
SMALL = {"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"cpu": "20m", "memory": "64Mi"}}
BROKER = {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "20m"}}
SLOT = "trireme.dev/e2e-slot"
"""A resource of one node alone, of which there are two."""
NODE = "trireme-worker"
DELETED = "trireme.dev/e2e-deleted"
"""A label of the node that is deleted, and then of another one; its taint, too."""
# The first driver waits until it is ended; what the broker holds tells the next one that it is not the first.
WAITS = """
import os, threading, redis
attempts = redis.Redis.from_url(os.environ["CELERY_BROKER_URL"]).incr(os.environ["HOSTNAME"].rpartition("-")[0])
print("attempt", attempts)
if attempts == 1:
    threading.Event().wait()
"""


# The same of a task, whose worker is taken from it.
HOLD = """
import os, threading, redis
from celery import Celery
app = Celery("tasks")

@app.task
def hold():
    times = redis.Redis.from_url(os.environ["CELERY_BROKER_URL"]).incr("holds")
    if times == 1:
        threading.Event().wait()
    return f"run {times}"
"""


def resource(kind, name, spec):
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def job(name, driver, **spec):
    if "clusterTemplate" not in spec:
        spec.setdefault("clusterRef", {"name": "tasks"})
    return resource("WorkerJob", name, {"driver": {"resources": SMALL, **driver}, **spec})


TASKS = resource(
    "WorkerCluster", "tasks", {"engine": "celery", "replicas": 0, "celery": {"broker": {"resources": BROKER}}}
)


NEVER_ENDS = {"script": "import threading; threading.Event().wait()"}  # never ends
SCHEDULES = {
    "replaces": (NEVER_ENDS, {"concurrencyPolicy": "Replace"}),
    "forbids": (NEVER_ENDS, {"concurrencyPolicy": "Forbid"}),
    "keeps-one": ({"command": ["true"]}, {"successfulJobsHistoryLimit": 1}),
    "keeps-none": ({"command": ["false"]}, {"failedJobsHistoryLimit": 0}),
}


def each_minute(name, driver, spec):
    template = {"spec": {"driver": {"resources": SMALL, **driver}, "clusterRef": {"name": "tasks"}, "backoffLimit": 0}}
    return resource("WorkerCronJob", name, {"schedule": "* * * * *", "jobTemplate": template, **spec})


@pytest.fixture(scope="module")
def shared():
    """Lend a namespace with a broker in it, for jobs that need no more; all start side by side."""
    with namespace("jobs") as kubectl:
        kubectl.apply(TASKS)
        kubectl("apply", f"--filename={SAMPLES / 'retries.yaml'}")
        # What a job without an image is told to wait for is its image.
        kubectl.wait("wc/tasks", "condition=Ready", seconds=180)
        kubectl.apply(
            job("evicted", {"script": WAITS}),
            job("no-image", {"script": "print(1)", "image": "trireme/nowhere:1"}, startDeadlineSeconds=45),
            job("no-cluster", {"script": "print(1)"}, clusterRef={"name": "nowhere"}, startDeadlineSeconds=3),
            *(each_minute(name, *more) for name, more in SCHEDULES.items()),
        )
        yield kubectl


@pytest.fixture(scope="module")
def deleted_node(shared):
    """Delete the node of a driver, of which Kubernetes takes note within two minutes; return the driver's pod."""
    name = shared.namespace
    taint = {"key": DELETED, "effect": "NoSchedule"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {DELETED: name}}}
    shared.apply({**node, "spec": {"taints": [taint]}})
    room = {"cpu": "1", "memory": "1Gi", "pods": "10"}
    status = {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]}
    shared("patch", "node", name, "--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}")
    # Whatever else a node without a machine is tainted with.
    driver = {"script": "print('moved')", "nodeSelector": {DELETED: name}, "tolerations": [{"operator": "Exists"}]}
    shared.apply(job("moved", driver))

    def bound():
        pods = shared.get("pods", "--selector=trireme.dev/job=moved,app.kubernetes.io/component=driver")["items"]
        return next((pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName") == name), None)

    try:
        pod = until(bound, seconds=90)
        shared("label", "node", NODE, f"{DELETED}={name}")
        shared("delete", "node", name)
        yield pod
    finally:
        shared("delete", "node", name, "--ignore-not-found")
        shared("label", "node", NODE, f"{DELETED}-")


def driver_of(kubectl, name):
    """Return the name of a job's driver pod that waits."""

    def waiting():
        pods = kubectl.get("pods", f"--selector=trireme.dev/job={name},app.kubernetes.io/component=driver")["items"]
        running = [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"]
        return next((pod for pod in running if "attempt 1" in kubectl("logs", pod, check=False)), None)

    return until(waiting, seconds=90)


@pytest.mark.usefixtures("deleted_node")  # which the last one waits for
def test_an_eviction_is_no_failure_of_the_driver(shared):
    """With a backoffLimit of 0, one that counted would end the job."""
    pod = driver_of(shared, "evicted")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/{shared.namespace}/pods/{pod}/eviction"
    shared("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))
    shared.wait("wj/evicted", "condition=Complete")
    status = shared.get("wj/evicted")["status"]
    assert (status["attempts"], status["disruptions"], status["output"]) == (2, 1, "attempt 2")
    (failure,) = status["failures"]
    assert (failure["reason"], failure["counted"], failure["pod"]) == ("EvictionByEvictionAPI", False, pod)


def test_a_failure_of_the_driver_is_told_and_tried_again(shared):
    shared.wait("wj/retries", "condition=Complete")
    status = shared.get("wj/retries")["status"]
    assert (status["attempts"], status["output"]) == (2, "2 attempts")
    (failure,) = status["failures"]
    assert (failure["attempt"], failure["reason"], failure["counted"]) == (1, "DriverFailed", True)
    assert "ConnectionError: the database does not answer" in failure["message"]
    assert "disruptions" not in status


@pytest.mark.parametrize(("name", "reason"), [("no-image", "ImagePullBackOff"), ("no-cluster", "NotFound")])
def test_a_driver_waits_no_longer_than_it_may(shared, name, reason):
    shared.wait(f"wj/{name}", "condition=Failed")
    failed = condition(shared.get(f"wj/{name}"), "Failed")
    assert failed["reason"] == "StartDeadlineExceeded"
    assert reason in failed["message"]
    # Nothing goes on waiting.
    until(lambda: not shared("get", f"job/{name}-driver", "--ignore-not-found", "--output=name").strip())


def test_a_long_log_is_kept_when_its_pod_is_gone(shared):
    shared.apply(job("talks", {"script": "for n in range(200): print('line', n)"}))
    shared.wait("wj/talks", "condition=Complete")
    shared("delete", "job/talks-driver", "--wait")
    assert shared.get("wj/talks")["status"]["output"].splitlines() == [f"line {n}" for n in range(190, 200)]
    log = shared.get("configmap/talks-log")["data"]["driver.log"]
    assert log.splitlines() == [f"line {n}" for n in range(200)]


def test_suspended_in_the_middle_and_resumed(kubectl):
    """The workers and the driver go, the scheduler and what it knows stays; the driver starts anew."""
    script = """
import threading
from distributed import Client
with Client() as client:
    attempts = client.get_metadata(["attempts"], 0) + 1
    client.set_metadata(["attempts"], attempts)
    print("attempt", attempts)
    if attempts == 1:
        threading.Event().wait()
    print(client.submit(sum, [1, 2, 3]).result())
"""
    control = {"scheduler": {"resources": SMALL}}
    spec = {"engine": "dask", "replicas": 1, "resources": SMALL, "dask": control, "drainSeconds": 5}
    kubectl.apply(job("it", {"script": script}, clusterTemplate={"spec": spec}))
    kubectl.wait("wj/it", "condition=ClusterReady", seconds=180)
    driver_of(kubectl, "it")
    kubectl("patch", "wj/it", "--type=merge", '--patch={"spec": {"suspend": true}}')

    def pods():
        found = kubectl.get("pods")["items"]
        return sorted(pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in found)

    until(lambda: pods() == ["scheduler"], seconds=90)
    assert kubectl.get("wj/it")["status"]["state"] == "Suspended"
    kubectl("patch", "wj/it", "--type=merge", '--patch={"spec": {"suspend": false}}')
    kubectl.wait("wj/it", "condition=Complete")
    status = kubectl.get("wj/it")["status"]
    assert status["output"] == "attempt 2\n6"
    assert "failures" not in status
    until(lambda: not kubectl("get", "wc", "--output=name").strip())


def test_a_job_survives_that_its_driver_is_preempted_and_a_task_that_its_worker_is(shared):
    """Driver and worker have the only slots there are, until a pod of a higher priority wants both."""
    names = {level: f"{shared.namespace}-{level}" for level in ("low", "high")}
    try:
        for value, (_, name) in enumerate(names.items(), start=1):
            run("kubectl", f"--context={CONTEXT}", "create", "priorityclass", name, f"--value={value}")
        path = SLOT.replace("/", "~1")
        patch = [{"op": "add", "path": f"/status/{kind}/{path}", "value": "2"} for kind in ("capacity", "allocatable")]
        shared("patch", "node", NODE, "--subresource=status", "--type=json", f"--patch={json.dumps(patch)}")
        slot = {**SMALL, "limits": {**SMALL["limits"], SLOT: "1"}}
        driver = {"script": WAITS, "resources": slot, "priorityClassName": names["low"]}
        shared("create", "configmap", "hold", f"--from-literal=tasks.py={HOLD}")
        group = {
            "clusterRef": {"name": "tasks"},
            "replicas": 1,
            "resources": slot,
            "drainSeconds": 5,
            "code": {"configMap": "hold"},
            "celery": {"queues": ["held"]},
            "values": {"priorityClassName": names["low"]},
        }
        send = "from celery import Celery; print(Celery().send_task('tasks.hold', queue='held').get(timeout=240))"
        shared.apply(job("preempted", driver), resource("WorkerGroup", "holders", group), job("held", {"script": send}))
        pod = driver_of(shared, "preempted")
        shared.wait("wg/holders", "condition=Ready")
        times = ("exec", "tasks-broker-0", "--", "redis-cli", "get", "holds")
        until(lambda: shared(*times).strip() == "1", seconds=90)
        urgent = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "urgent"},
            "spec": {
                "priorityClassName": names["high"],
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "it",
                        "image": "trireme/celery:dev",
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["true"],
                        "resources": {"limits": {SLOT: "2", "cpu": "100m", "memory": "64Mi"}},
                    }
                ],
            },
        }
        shared.apply(urgent)
        shared.wait("wj/preempted", "condition=Complete")
        assert shared.get("pod/urgent")["status"]["phase"] == "Succeeded"
        status = shared.get("wj/preempted")["status"]
        assert (status["attempts"], status["disruptions"], status["output"]) == (2, 1, "attempt 2")
        (failure,) = status["failures"]
        assert (failure["reason"], failure["counted"], failure["pod"]) == ("PreemptionByScheduler", False, pod)
        shared.wait("wj/held", "condition=Complete")
        assert shared.get("wj/held")["status"]["output"] == "run 2"
    finally:
        patch = [{"op": "remove", "path": f"/status/{kind}/{path}"} for kind in ("capacity", "allocatable")]
        shared("patch", "node", NODE, "--subresource=status", "--type=json", f"--patch={json.dumps(patch)}")
        run("kubectl", f"--context={CONTEXT}", "delete", "priorityclass", *names.values())


def test_quotas_are_seen_before_they_bite(kubectl):
    kubectl("create", "quota", "team", "--hard=pods=2,limits.memory=600Mi")
    spec = {"engine": "dask", "replicas": 0, "resources": SMALL, "dask": {"scheduler": {"resources": SMALL}}}
    spec["autoscaling"] = {"minReplicas": 0, "maxReplicas": 3}
    kubectl.apply(resource("WorkerCluster", "numbers", spec))
    short = until(lambda: condition(kubectl.get("wc/numbers"), "QuotaShort"))
    assert (short["status"], short["reason"]) == ("True", "MaximumExceedsQuota")
    assert "3 workers have no room: ResourceQuota team: limits.memory: " in short["message"]
    assert "spec.autoscaling.maxReplicas" in short["message"]
    # Nothing was refused: there is room for what is there now.
    kubectl.wait("wc/numbers", "condition=Ready")
    assert "QuotaShort" in kubectl("describe", "wc/numbers")
    kubectl("patch", "quota/team", "--type=merge", '--patch={"spec": {"hard": {"pods": "9", "limits.memory": "2Gi"}}}')
    until(lambda: not condition(kubectl.get("wc/numbers"), "QuotaShort"))


def test_a_limit_range_is_told_by_the_field_that_it_is_about(kubectl):
    limits = [{"type": "Container", "max": {"memory": "128Mi"}, "min": {"memory": "16Mi"}}]
    kubectl.apply(
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "team"}, "spec": {"limits": limits}},
        TASKS,
        resource("WorkerCluster", "large", {"engine": "dask", "replicas": 1, "resources": SMALL}),
        job("it", {"command": ["true"]}),
    )
    violated = "LimitRangeViolated"
    kubectl.told("wc/large", violated, "Ready", ["spec.dask.scheduler.resources"])
    kubectl.told("wc/large", violated, "Progressing", ["change spec.resources"])
    kubectl.wait("wc/tasks", "condition=Ready", seconds=180)
    kubectl.told("wj/it", violated, "DriverRunning", ["spec.driver.resources"])


def test_a_job_by_schedule(kubectl):
    """The sample runs each minute; as if the last time had been long ago, it runs at once."""
    kubectl("apply", f"--filename={SAMPLES / 'cron.yaml'}")
    long_ago = {"status": {"lastScheduleTime": "2026-01-01T00:00:00Z"}}
    kubectl("patch", "wcj/every-minute", "--subresource=status", "--type=merge", f"--patch={json.dumps(long_ago)}")
    name = min(until(lambda: kubectl("get", "wj", "--output=name").split()))
    minute = int(name.rpartition("-")[2])
    assert 0 <= datetime.now(UTC).timestamp() // 60 - minute <= 2
    kubectl.wait(name, "condition=Complete")
    until(lambda: "lastSuccessfulTime" in kubectl.get("wcj/every-minute")["status"])
    due = datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert kubectl.get(name)["metadata"]["annotations"]["trireme.dev/cronjob-scheduled-timestamp"] == due
    # The next one may have been due since.
    assert kubectl.get("wcj/every-minute")["status"]["lastScheduleTime"] >= due
    columns = kubectl("get", "wcj").splitlines()[0].split()
    assert columns == ["NAME", "SCHEDULE", "TIMEZONE", "SUSPEND", "ACTIVE", "LAST", "SCHEDULE", "AGE"]
    described = kubectl("describe", "wcj/every-minute").partition("Events:")[2]
    assert "SuccessfulCreate" in described
    kubectl("delete", "wcj/every-minute", "--wait")
    until(lambda: not kubectl("get", "wj,wc,jobs", "--output=name").strip())


def test_what_a_schedule_does_about_the_jobs_that_are_there(shared):
    """Each was due at least twice by then."""

    def jobs(name):
        return [
            item["metadata"]["name"] for item in shared.get("wj", f"--selector=trireme.dev/cronjob={name}")["items"]
        ]

    def begun(name):
        about = f"--field-selector=involvedObject.name={name},reason=SuccessfulCreate"
        return sorted(event["message"].removeprefix("created job ") for event in shared.get("events", about)["items"])

    for name in ("replaces", "keeps-one", "keeps-none"):
        until(lambda name=name: len(begun(name)) > 1, seconds=150)
    until(lambda: jobs("replaces") == begun("replaces")[-1:])
    until(lambda: jobs("keeps-one") == begun("keeps-one")[-1:])
    until(lambda: jobs("keeps-none") == [])
    until(lambda: condition(shared.get("wcj/forbids"), "Ready")["reason"] == "JobAlreadyActive", seconds=90)
    [only] = jobs("forbids")
    assert begun("forbids") == [only]
    assert only in condition(shared.get("wcj/forbids"), "Ready")["message"]


def test_a_start_that_is_too_late_is_missed(shared):
    yearly = {"schedule": "0 0 1 1 *", "startingDeadlineSeconds": 60}
    shared.apply(each_minute("late", {"command": ["true"]}, yearly))
    year = datetime.now(UTC).year
    long_ago = {"status": {"lastScheduleTime": f"{year - 1}-06-01T00:00:00Z"}}
    shared("patch", "wcj/late", "--subresource=status", "--type=merge", f"--patch={json.dumps(long_ago)}")
    message = shared.told("wcj/late", "MissSchedule")
    assert f"due at {year}-01-01T00:00:00Z is later than spec.startingDeadlineSeconds allows" in message
    assert shared("get", "wj", "--selector=trireme.dev/cronjob=late", "--output=name") == ""


def test_a_schedule_that_means_nothing(kubectl):
    template = {"spec": {"clusterRef": {"name": "tasks"}, "driver": {"command": ["true"]}}}
    wrong = {"schedule": "61 * * * *", "jobTemplate": template}
    kubectl.apply(resource("WorkerCronJob", "it", wrong))
    assert "spec.schedule" in kubectl.told("wcj/it", "InvalidSchedule")
    kubectl("patch", "wcj/it", "--type=merge", '--patch={"spec": {"schedule": "@daily", "timeZone": "Mars/Olympus"}}')
    until(lambda: condition(kubectl.get("wcj/it"), "Ready").get("reason") == "UnknownTimeZone")
    for change in ({"schedule": "TZ=UTC 0 0 * * *"}, {"timeZone": "Local"}):
        patch = json.dumps({"spec": change})
        with pytest.raises(AssertionError, match=r"use timeZone|zone of the IANA database"):
            kubectl("patch", "wcj/it", "--type=merge", f"--patch={patch}")


def test_a_driver_whose_node_is_deleted_is_tried_again(shared, deleted_node):
    shared.wait("wj/moved", "condition=Complete", seconds=150)
    status = shared.get("wj/moved")["status"]
    assert (status["attempts"], status["disruptions"], status["output"]) == (2, 1, "moved")
    (failure,) = status["failures"]
    assert (failure["reason"], failure["counted"], failure["pod"]) == ("DeletionByPodGC", False, deleted_node)
