"""What to do about a WorkerJob."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta

from trireme_operator.api import (
    API_VERSION,
    CONFIG_MAP,
    JOB,
    JOB_LABEL,
    LABEL_COMPONENT,
    LABEL_INSTANCE,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_PART_OF,
    PART_OF,
    WORKER_CLUSTER,
    WORKER_JOB,
    Object,
    owned_by,
    owner_reference,
)
from trireme_operator.engines.adapter import mount_config_map
from trireme_operator.plan.action import Delete, Patch, Plan
from trireme_operator.plan.cluster import MANAGER, adapter
from trireme_operator.plan.conditions import Condition, find, is_true, merge, moment

SCRIPT = "/opt/trireme/script"
CODE = "/opt/trireme/code"


@dataclass(frozen=True)
class Observed:
    """What was seen around a job.

    Args:
        cluster: the WorkerCluster that it uses, if there is one by that name.
        driver: its batch/v1 Job, if it is there.
        pods: its driver's pods, oldest first.
        output: the last lines of the last pod that ended; None if nobody asked for them.
    """

    cluster: Object | None
    driver: Object | None
    pods: Sequence[Object] = ()
    output: str | None = None


def cluster_name(job: Object) -> str:
    """Return the name of the cluster that a job uses."""
    reference = job["spec"].get("clusterRef")
    return str(reference["name"] if reference else job["metadata"]["name"])


def driver_name(job: Object) -> str:
    """Return the name of a job's batch/v1 Job."""
    return f"{job['metadata']['name']}-driver"


def has_ended(job: Object) -> bool:
    """Tell whether a job's status says that it completed or failed."""
    return is_true(job, "Complete") or is_true(job, "Failed")


def wants_output(job: Object, driver: Object | None) -> bool:
    """Tell whether the driver's last lines are to be read now: it has ended, and the status does not say so yet."""
    return driver is not None and not has_ended(job) and (is_true(driver, "Complete") or is_true(driver, "Failed"))


def plan(job: Object, observed: Observed, now: datetime, stamp: str) -> Plan:
    """Decide what to do about a job.

    Args:
        job: the WorkerJob.
        observed: what was seen around it.
        now: the time.
        stamp: the same, as in JSON.
    """
    own = "clusterTemplate" in job["spec"]
    if has_ended(job):
        return _after_end(job, observed, now, own)
    if own and observed.cluster and not owned_by(observed.cluster, job):
        problem = f"a WorkerCluster {cluster_name(job)} is there already: delete it, or name this job otherwise"
        return Plan(status=_status(job, observed, stamp, Condition("ClusterReady", False, "NameTaken", problem)))
    made = Plan()
    over = is_true(observed.driver or {}, "Complete") or is_true(observed.driver or {}, "Failed")
    if own and not over:
        made.apply.append(_cluster(job))
    ready = observed.cluster is not None and is_true(observed.cluster, "Ready")
    suspend = bool(job["spec"].get("suspend"))
    if observed.driver:
        if bool(observed.driver["spec"].get("suspend")) != suspend:
            made.patch.append(
                Patch(JOB, job["metadata"]["namespace"], driver_name(job), {"spec": {"suspend": suspend}})
            )
    elif observed.cluster and ready and not suspend:
        if "script" in job["spec"]["driver"]:
            made.apply.append(_script(job))
        made.create.append(_driver(job, observed.cluster))
    made.status = _status(job, observed, stamp, _cluster_ready(job, observed))
    return made


def _after_end(job: Object, observed: Observed, now: datetime, own: bool) -> Plan:
    """A job that has ended gives its own cluster back, and goes when its time has come."""
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    made = Plan()
    if own and observed.cluster and owned_by(observed.cluster, job):
        uid = observed.cluster["metadata"]["uid"]
        made.delete.append(Delete(WORKER_CLUSTER, namespace, observed.cluster["metadata"]["name"], uid))
    ttl = job["spec"].get("ttlSecondsAfterFinished")
    if ttl is not None:
        ended = find(job, "Complete") if is_true(job, "Complete") else find(job, "Failed")
        assert ended
        left = (moment(ended["lastTransitionTime"]) + timedelta(seconds=ttl) - now).total_seconds()
        if left <= 0:
            made.delete.append(Delete(WORKER_JOB, namespace, name, job["metadata"]["uid"]))
        else:
            made.again = left
    return made


def _labels(job: Object, **more: str) -> Object:
    return {LABEL_PART_OF: PART_OF, LABEL_MANAGED_BY: MANAGER, JOB_LABEL: job["metadata"]["name"], **more}


def _metadata(job: Object, name: str, labels: Object) -> Object:
    return {
        "name": name,
        "namespace": job["metadata"]["namespace"],
        "labels": labels,
        "ownerReferences": [owner_reference(job)],
    }


def _cluster(job: Object) -> Object:
    spec = deepcopy(job["spec"]["clusterTemplate"]["spec"])
    if job["spec"].get("suspend"):
        spec["suspend"] = True
    return {
        "apiVersion": API_VERSION,
        "kind": WORKER_CLUSTER.kind,
        "metadata": _metadata(job, cluster_name(job), _labels(job)),
        "spec": spec,
    }


def _script(job: Object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": CONFIG_MAP.kind,
        "metadata": _metadata(job, f"{job['metadata']['name']}-script", _labels(job)),
        "data": {"main.py": job["spec"]["driver"]["script"]},
    }


def _driver(job: Object, cluster: Object) -> Object:
    spec = job["spec"]
    labels = _labels(
        job,
        **{LABEL_NAME: cluster["spec"]["engine"], LABEL_INSTANCE: cluster_name(job), LABEL_COMPONENT: "driver"},
    )
    driver: Object = {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": _metadata(job, driver_name(job), labels),
        "spec": {
            "backoffLimit": spec.get("backoffLimit", 0),
            "template": {"metadata": {"labels": labels}, "spec": _pod(job, cluster)},
        },
    }
    if "activeDeadlineSeconds" in spec:
        driver["spec"]["activeDeadlineSeconds"] = spec["activeDeadlineSeconds"]
    return driver


def _pod(job: Object, cluster: Object) -> Object:
    driver = job["spec"]["driver"]
    command = driver.get("command", ["python", f"{SCRIPT}/main.py"])
    container: Object = {
        "name": "driver",
        "command": [*command],
        "env": [
            {"name": "HOME", "value": "/tmp"},
            {"name": "PYTHONUNBUFFERED", "value": "1"},
            *deepcopy(driver.get("env", [])),
        ],
        "resources": deepcopy(driver.get("resources", {})),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if driver.get("args"):
        container["args"] = [*driver["args"]]
    image = driver.get("image") or cluster["spec"].get("image") or f"trireme/{cluster['spec']['engine']}:dev"
    container["image"] = image
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    if "script" in driver:
        mount_config_map(pod, "script", f"{job['metadata']['name']}-script", SCRIPT)
    code = cluster["spec"].get("code", {}).get("configMap")
    if code:
        mount_config_map(pod, "code", code, CODE)
        container["env"].insert(0, {"name": "PYTHONPATH", "value": CODE})
    adapter(cluster).driver(pod, cluster_name(job), job["metadata"]["namespace"])
    return pod


def _cluster_ready(job: Object, observed: Observed) -> Condition:
    name = cluster_name(job)
    if observed.cluster is None:
        if "clusterRef" in job["spec"]:
            return Condition("ClusterReady", False, "NotFound", f"there is no WorkerCluster {name} in this namespace")
        return Condition("ClusterReady", False, "Creating", f"WorkerCluster {name} is being made")
    found = find(observed.cluster, "Ready")
    if found is None:
        return Condition("ClusterReady", False, "Creating", f"WorkerCluster {name} has no status yet")
    return Condition("ClusterReady", found["status"] == "True", found["reason"], found["message"])


def _status(job: Object, observed: Observed, stamp: str, cluster_ready: Condition) -> Object:
    before = job.get("status", {})
    suspended = bool(job["spec"].get("suspend"))
    driver = observed.driver or {}
    counts = driver.get("status", {})
    found: Object = {"observedGeneration": job["metadata"]["generation"], "cluster": cluster_name(job)}
    start = before.get("startTime") or counts.get("startTime")
    if start:
        found["startTime"] = start
    attempts = max(before.get("attempts", 0), sum(counts.get(name, 0) for name in ("active", "succeeded", "failed")))
    found["attempts"] = attempts
    conditions = [
        cluster_ready,
        Condition(
            "Suspended",
            suspended,
            "Suspended" if suspended else "Running",
            "spec.suspend is true" if suspended else "spec.suspend is false",
        ),
    ]
    if observed.driver:
        conditions.append(_driver_running(observed))
    if is_true(driver, "Complete"):
        found["completionTime"] = counts.get("completionTime", stamp)
        found["output"] = observed.output or ""
        conditions.append(Condition("Complete", True, "Completed", "the driver completed"))
    elif is_true(driver, "Failed"):
        found["output"] = observed.output or ""
        conditions.append(_failed(driver, observed))
    found["conditions"] = merge(before.get("conditions", []), conditions, job["metadata"]["generation"], stamp)
    return found


def _driver_running(observed: Observed) -> Condition:
    """Say how the newest driver pod fares: why it does not start, if it does not."""
    if not observed.pods:
        return Condition("DriverRunning", False, "NoPod", "the driver has no pod yet")
    pod = observed.pods[-1]
    status = pod.get("status", {})
    for container in status.get("containerStatuses", []):
        if waiting := container.get("state", {}).get("waiting"):
            return Condition(
                "DriverRunning", False, waiting["reason"], waiting.get("message") or "the driver's container waits"
            )
        if terminated := container.get("state", {}).get("terminated"):
            return Condition("DriverRunning", False, terminated.get("reason", "Ended"), _exit(terminated))
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Condition(
                "DriverRunning", False, condition.get("reason", "Unschedulable"), condition.get("message", "")
            )
    running = status.get("phase") == "Running"
    return Condition("DriverRunning", running, status.get("phase", "Pending"), f"pod {pod['metadata']['name']}")


def _exit(terminated: Object) -> str:
    if terminated.get("reason") == "OOMKilled":
        return "the driver used more memory than driver.resources.limits.memory gives it (exit code 137)"
    return f"the driver ended with exit code {terminated['exitCode']}"


def _failed(driver: Object, observed: Observed) -> Condition:
    job = find(driver, "Failed")
    assert job
    ended = [
        container["state"]["terminated"]
        for pod in observed.pods
        for container in pod.get("status", {}).get("containerStatuses", [])
        if container.get("state", {}).get("terminated", {}).get("exitCode")
    ]
    if job["reason"] == "DeadlineExceeded":
        return Condition("Failed", True, job["reason"], "the driver took longer than activeDeadlineSeconds allows")
    if not ended:
        return Condition("Failed", True, job["reason"], job.get("message", ""))
    lines = (observed.output or ended[-1].get("message", "")).strip()
    reason = "OOMKilled" if ended[-1].get("reason") == "OOMKilled" else "DriverFailed"
    return Condition("Failed", True, reason, _exit(ended[-1]) + (f": {lines.splitlines()[-1]}" if lines else ""))
