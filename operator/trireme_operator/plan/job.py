"""What to do about a WorkerJob."""

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta

from trireme_operator.api import (
    API_VERSION,
    CONFIG_MAP,
    JOB,
    JOB_LABEL,
    JOB_MANAGER,
    LABEL_COMPONENT,
    LABEL_INSTANCE,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_PART_OF,
    PART_OF,
    QUOTA_SHORT,
    WORKER_CLUSTER,
    WORKER_JOB,
    Object,
    owned_by,
    owner_reference,
)
from trireme_operator.engines import ENGINES, Driver
from trireme_operator.plan import attempts, quota
from trireme_operator.plan.action import Delete, Patch, Plan
from trireme_operator.plan.attempts import DRIVER
from trireme_operator.plan.cluster import MANAGER, NO_WORKERS, adapter, for_drivers, look_again, offered_by, values
from trireme_operator.plan.conditions import Condition, find, is_true, merge, moment, timestamp
from trireme_operator.plan.difference import sealed
from trireme_operator.plan.pods import Trouble, of_pods

PROGRAM = "/opt/trireme/script"
_OUTPUT_LINES = 10
_AFTERWORD_LINES = 200
_OUTPUT_CHARACTERS = 4096
_PLACEMENT = ("nodeSelector", "priorityClassName", "tolerations")


@dataclass(frozen=True)
class Observed:
    """What was seen around a job.

    Args:
        cluster: the WorkerCluster that it uses, if there is one by that name.
        workers: the Deployment of that cluster's workers, which know how to reach the engine.
        driver: its batch/v1 Job, if it is there.
        pods: its driver's pods, oldest first.
        failed: those of before that failed and are gone, oldest first.
        output: the last lines of the last pod that ended; None if nobody asked for them.
        log: more of them, if there are more.
        trouble: what a closer look found, where no pod's status tells.
        short: what its namespace's quotas have no room for.
        forgetting: the control pod of that cluster, if it knows no driver that began before it.
    """

    cluster: Object | None
    workers: Object | None = None
    driver: Object | None = None
    pods: Sequence[Object] = ()
    failed: Sequence[Object] = ()
    output: str | None = None
    log: str | None = None
    trouble: Trouble | None = None
    short: Trouble | None = None
    forgetting: attempts.Forgetting | None = None


def cluster_name(job: Object) -> str:
    """Return the name of the cluster that a job uses."""
    reference = job["spec"].get("clusterRef")
    return str(reference["name"] if reference else job["metadata"]["name"])


def driver_name(job: Object) -> str:
    """Return the name of a job's batch/v1 Job."""
    return f"{job['metadata']['name']}-driver"


def is_anothers(item: Object) -> bool:
    """Tell whether something else than this operator looks after a job."""
    return bool(item["spec"].get("managedBy", JOB_MANAGER) != JOB_MANAGER)


def has_ended(job: Object) -> bool:
    """Tell whether a job's status says that it completed or failed."""
    return is_true(job, "Complete") or is_true(job, "Failed")


def _is_over(driver: Object | None) -> bool:
    return driver is not None and (is_true(driver, "Complete") or is_true(driver, "Failed"))


def end(driver: Object) -> datetime:
    """Return when a driver that has ended did so."""
    found = find(driver, "Complete") if is_true(driver, "Complete") else find(driver, "Failed")
    assert found
    return moment(found["lastTransitionTime"])


def wants_output(job: Object, driver: Object | None) -> bool:
    """Tell whether the driver's last lines are to be read now: it has ended, and the status does not say so yet."""
    return _is_over(driver) and not has_ended(job)


def last_lines(log: str, engine: str) -> str:
    """Return the last lines of a driver's log, without what the engine's client may add once the program is through."""
    afterword = ENGINES[engine].afterword if engine in ENGINES else ""
    if afterword:
        # Of all lines it takes seconds where each is one of these, but not the last.
        log = "\n".join(log.splitlines()[-_AFTERWORD_LINES:])
        log = re.sub(rf"^(?:{afterword}\s*)+\Z", "", log, flags=re.MULTILINE)
    return "\n".join(log.splitlines()[-_OUTPUT_LINES:]).strip()[-_OUTPUT_CHARACTERS:]


def plan(job: Object, observed: Observed, now: datetime) -> Plan:
    """Decide what to do about a job.

    Args:
        job: the WorkerJob.
        observed: what was seen around it.
        now: the time.
    """
    own, namespace = "clusterTemplate" in job["spec"], job["metadata"]["namespace"]
    if has_ended(job):
        return _after_end(job, observed, now, own)
    made = Plan()
    left = _start_seconds(job, observed, now)
    if left is not None and left <= 0:
        if observed.driver:
            made.delete.append(Delete(JOB, namespace, driver_name(job), observed.driver["metadata"]["uid"]))
        return made
    made.again = left
    if own and observed.cluster and not owned_by(observed.cluster, job):
        return made
    over = _is_over(observed.driver)
    if own and not over:
        made.apply.append(_cluster(job, observed.cluster))
    suspend = bool(job["spec"].get("suspend"))
    if observed.driver:
        if "script" in job["spec"]["driver"] and not over:
            made.apply.append(_script(job))
        is_suspended = bool(observed.driver["spec"].get("suspend"))
        # One that its engine has forgotten ends, and begins anew.
        hold = suspend or (not over and _is_forgotten(job, observed))
        # It goes on as it starts: once the engine answers, which may be suspended, too.
        if is_suspended != hold and (hold or _answers(observed.cluster)):
            made.patch.append(Patch(JOB, namespace, driver_name(job), {"spec": {"suspend": hold}}))
        if observed.log:
            made.start.append(_log(job, observed.log))
        if not over:
            made.again = _earlier(left, look_again(job, "DriverRunning", now))
    elif observed.cluster and observed.workers and _answers(observed.cluster) and not suspend:
        if "script" in job["spec"]["driver"]:
            made.apply.append(_script(job))
        made.start.append(_driver(job, observed.cluster, observed.workers))
    return made


def _earlier(*seconds: float | None) -> float | None:
    return min((one for one in seconds if one is not None), default=None)


def _is_forgotten(job: Object, observed: Observed) -> bool:
    """Tell whether a driver runs, or is about to end, that its engine does not know any more."""
    return any(
        pod.get("status", {}).get("phase") == "Running" and attempts.of_forgotten(job, pod, observed.forgetting)
        for pod in observed.pods
    )


def _waits(job: Object, observed: Observed) -> bool:
    """Tell whether the driver should run, and waits for something other than its turn to be tried again."""
    if job["spec"].get("suspend") or _is_over(observed.driver):
        return False
    if observed.driver is None or observed.driver["spec"].get("suspend"):
        return True
    if observed.pods:
        return bool(observed.pods[-1].get("status", {}).get("phase", "Pending") == "Pending")
    return observed.trouble is not None or not job.get("status", {}).get("failures")


def _waiting_since(job: Object, observed: Observed, now: datetime) -> datetime | None:
    """Return since when the driver has waited to run; None while it does not wait."""
    if not _waits(job, observed):
        return None
    before = job.get("status", {})
    if told := before.get("waitingSince"):
        return moment(told)
    return now if before else moment(job["metadata"].get("creationTimestamp", timestamp(now)))


def _start_seconds(job: Object, observed: Observed, now: datetime) -> float | None:
    """Return the seconds that the driver may wait still; None for any time."""
    seconds, since = job["spec"].get("startDeadlineSeconds"), _waiting_since(job, observed, now)
    if seconds is None or since is None:
        return None
    return (since + timedelta(seconds=seconds) - now).total_seconds()


def _answers(cluster: Object | None) -> bool:
    """Tell whether the engine of a cluster answers, and has workers or is about to.

    A driver's work waits in the engine until they come, so both may start side by side; but not where something keeps
    them from coming, nor as long as what the cluster says is about an earlier spec.
    """
    if cluster is None:
        return False
    current = cluster.get("status", {}).get("observedGeneration") == cluster["metadata"]["generation"]
    ready = find(cluster, "Ready")
    on_their_way = ready is not None and (ready["status"] == "True" or ready["reason"] == NO_WORKERS)
    return current and on_their_way and not cluster["spec"].get("suspend")


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


def _cluster(job: Object, found: Object | None) -> Object:
    spec = deepcopy(job["spec"]["clusterTemplate"]["spec"])
    if job["spec"].get("suspend"):
        spec["suspend"] = True
    cluster = sealed(
        {
            "apiVersion": API_VERSION,
            "kind": WORKER_CLUSTER.kind,
            "metadata": _metadata(job, cluster_name(job), _labels(job)),
            "spec": spec,
        }
    )
    if "autoscaling" in spec and found:
        # The size is the autoscaler's once it is there. It stays in what is applied, lest it went back to its default.
        cluster["spec"] = {**spec, "replicas": found["spec"].get("replicas", 1)}
    return cluster


def _script(job: Object) -> Object:
    return sealed(
        {
            "apiVersion": "v1",
            "kind": CONFIG_MAP.kind,
            "metadata": _metadata(job, f"{job['metadata']['name']}-script", _labels(job)),
            "data": {"main.py": job["spec"]["driver"]["script"]},
        }
    )


def lacks_quota(job: Object, driver: Object | None, pods: Sequence[Object], quotas: Sequence[Object]) -> Trouble | None:
    """Say what a namespace's quotas have no room for, before the driver is refused.

    Args:
        job: the WorkerJob.
        driver: its batch/v1 Job, if it is there.
        pods: its driver's pods.
        quotas: the ResourceQuotas of its namespace.
    """
    if pods or _is_over(driver) or job["spec"].get("suspend"):
        return None
    asked = job["spec"]["driver"]
    containers = [{"resources": asked.get("resources", {})}]
    spec = {"containers": containers, "priorityClassName": asked.get("priorityClassName", "")}
    short = quota.shortage(quotas, [quota.Wanted(1, spec)])
    if short is None:
        return None
    return Trouble(
        "DriverExceedsQuota", f"the driver has no room: {short}: raise the quota, or lower {DRIVER.resources}"
    )


def log_name(job: Object) -> str:
    """Return the name of the ConfigMap with the end of a job's log, where that is more than its status holds."""
    return f"{job['metadata']['name']}-log"


def _log(job: Object, text: str) -> Object:
    # Without the label by which objects are watched: nobody has to keep it in memory.
    labels = {LABEL_MANAGED_BY: MANAGER, JOB_LABEL: job["metadata"]["name"]}
    return {
        "apiVersion": "v1",
        "kind": CONFIG_MAP.kind,
        "metadata": _metadata(job, log_name(job), labels),
        "data": {"driver.log": text},
    }


def _driver(job: Object, cluster: Object, workers: Object) -> Object:
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
            "podFailurePolicy": attempts.POLICY,
            "template": {"metadata": {"labels": labels}, "spec": _pod(job, cluster, workers)},
        },
    }
    if "activeDeadlineSeconds" in spec:
        driver["spec"]["activeDeadlineSeconds"] = spec["activeDeadlineSeconds"]
    return driver


def _pod(job: Object, cluster: Object, workers: Object) -> Object:
    """Return the driver's pod; image and connection are the workers', where the job says nothing else."""
    driver, engine, given = job["spec"]["driver"], adapter(cluster), values(cluster)
    template = workers["spec"]["template"]["spec"]
    # Others may have added containers of their own.
    worker = next(container for container in template["containers"] if container["name"] == "worker")
    besides = for_drivers(workers)
    container: Object = {
        "name": "driver",
        "image": driver.get("image") or besides.get("image") or worker["image"],
        "imagePullPolicy": worker["imagePullPolicy"],
        "command": [*driver.get("command", ["python", f"{PROGRAM}/main.py"])],
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
    if engine.driver_ports:
        container["ports"] = [*engine.driver_ports]
    names = {"NODE_NAME", "PYTHONPATH", *engine.shared_env}
    environment = [
        {"name": "HOME", "value": "/tmp"},
        {"name": "PYTHONUNBUFFERED", "value": "1"},
        *(variable for variable in worker["env"] if variable["name"] in names),
        *besides.get("env", []),
        *engine.driver_env(
            Driver(
                container=container,
                cluster=cluster["spec"],
                capacity=offered_by(workers),
                properties=given.get("config") or {},
                borrows="clusterRef" in job["spec"],
            )
        ),
    ]
    container["env"] = _with(environment, driver.get("env", []))
    if besides.get("envFrom"):
        container["envFrom"] = besides["envFrom"]
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # The program is not process 1, which TERM would not end unless it asked for it.
        "shareProcessNamespace": True,
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
    pod |= {name: deepcopy(driver[name]) for name in _PLACEMENT if driver.get(name)}
    if "imagePullSecrets" in template:
        pod["imagePullSecrets"] = template["imagePullSecrets"]
    if "affinity" in template and set(given.get("placement") or {}) & {"nodeLabels", "podLabels"}:
        # Workers of the chart's own placement are near their data, and so is who reads it beside them.
        pod["affinity"] = deepcopy(template["affinity"])
    own = {volume["name"] for volume in driver.get("volumes", [])}
    shared = {*engine.shared_volumes, *(volume["name"] for volume in given.get("volumes") or [])} - own
    pod["volumes"] += [volume for volume in template["volumes"] if volume["name"] in shared]
    pod["volumes"] += deepcopy(driver.get("volumes", []))
    container["volumeMounts"] += [mount for mount in worker["volumeMounts"] if mount["name"] in shared]
    container["volumeMounts"] += deepcopy(driver.get("volumeMounts", []))
    pod["volumes"] += besides.get("volumes", [])
    container["volumeMounts"] += besides.get("volumeMounts", [])
    program = f"{job['metadata']['name']}-script" if "script" in driver else code(job)
    if program:
        pod["volumes"].append({"name": "script", "configMap": {"name": program}})
        container["volumeMounts"].append({"name": "script", "mountPath": PROGRAM, "readOnly": True})
        container["workingDir"] = PROGRAM
    return pod


def code(job: Object) -> str | None:
    """Return the name of the ConfigMap with the driver's program, if the job names one."""
    found: str | None = job["spec"]["driver"].get("code", {}).get("configMap")
    return found


def _with(defaults: Sequence[Object], own: Sequence[Object]) -> list[Object]:
    """Return the defaults with the user's variables in their places: others may refer to them, and only backwards."""
    by_name = {variable["name"]: variable for variable in own}
    known = {variable["name"] for variable in defaults}
    replaced = [by_name.get(variable["name"], variable) for variable in defaults]
    return [*replaced, *(variable for name, variable in by_name.items() if name not in known)]


def _cluster_ready(job: Object, observed: Observed, refusal: Trouble | None) -> Condition:
    name = cluster_name(job)
    if refusal:
        return Condition("ClusterReady", False, refusal.reason, refusal.message)
    if "clusterTemplate" in job["spec"] and observed.cluster and not owned_by(observed.cluster, job):
        problem = f"a WorkerCluster {name} is there already: delete it, or name this job otherwise"
        return Condition("ClusterReady", False, "NameTaken", problem)
    if observed.cluster is None:
        if "clusterRef" in job["spec"]:
            message = f"spec.clusterRef.name: there is no WorkerCluster {name} in this namespace: create it"
            return Condition("ClusterReady", False, "NotFound", message)
        return Condition("ClusterReady", False, "Creating", f"WorkerCluster {name} is being made")
    found = find(observed.cluster, "Ready")
    if found is None:
        return Condition("ClusterReady", False, "Creating", f"WorkerCluster {name} has no status yet")
    return Condition("ClusterReady", found["status"] == "True", found["reason"], found["message"])


def status(job: Object, observed: Observed, now: datetime, refusal: Trouble | None = None) -> Object:
    """Return the status of a job.

    Args:
        job: the WorkerJob.
        observed: what was seen around it.
        now: the time.
        refusal: what the API server does not accept of it. What is invalid will never be, so the job has failed
            then: its driver can't change.
    """
    stamp = timestamp(now)
    before = job.get("status", {})
    suspended = bool(job["spec"].get("suspend"))
    driver = observed.driver or {}
    counts = driver.get("status", {})
    found: Object = {"observedGeneration": job["metadata"]["generation"], "cluster": cluster_name(job)}
    start = before.get("startTime") or counts.get("startTime")
    if start:
        found["startTime"] = start
    new = attempts.failures(job, [*observed.failed, *observed.pods], stamp, observed.forgetting)
    failures = [*before.get("failures", []), *new]
    # What was not their program's fault is not among those that the Job counts.
    disruptions = before.get("disruptions", 0) + sum(not one["counted"] for one in new)
    started = sum(counts.get(name, 0) for name in ("active", "succeeded", "failed")) + disruptions
    found["attempts"] = max(before.get("attempts", 0), started)
    if failures:
        found["failures"] = failures[-attempts.MOST :]
    if disruptions:
        found["disruptions"] = disruptions
    since = _waiting_since(job, observed, now)
    if since:
        found["waitingSince"] = timestamp(since)
    conditions = [
        _cluster_ready(job, observed, refusal if observed.driver else None),
        Condition("Suspended", True, "Suspended", "spec.suspend is true")
        if suspended
        else Condition("Suspended", False, "NotSuspended", "spec.suspend is false"),
    ]
    if observed.driver or refusal:
        conditions.append(_driver_running(job, observed, None if observed.driver else refusal, failures))
    if observed.short:
        conditions.append(Condition(QUOTA_SHORT, True, observed.short.reason, observed.short.message))
    left = _start_seconds(job, observed, now)
    if is_true(driver, "Complete"):
        found["completionTime"] = counts.get("completionTime", stamp)
        found["output"] = observed.output or ""
        conditions.append(Condition("Complete", True, "Completed", "the driver completed"))
    elif is_true(driver, "Failed"):
        found["output"] = observed.output or (failures[-1].get("output", "") if failures else "")
        conditions.append(_failed(driver, observed, failures))
    elif left is not None and left <= 0:
        found.pop("waitingSince", None)
        conditions.append(_late(job, conditions))
    elif refusal and refusal.reason == "Invalid" and not observed.driver:
        conditions.append(Condition("Failed", True, refusal.reason, refusal.message))
    found["state"] = _state(conditions)
    if found["state"] in ("Complete", "Failed"):
        end = moment(found["completionTime"]) if "completionTime" in found else now
        found["duration"] = _duration(end - moment(start)) if start else "0s"
    found["conditions"] = merge(before.get("conditions", []), conditions, job["metadata"]["generation"], stamp)
    return found


def _state(conditions: Sequence[Condition]) -> str:
    """Return the one word that `kubectl get` prints."""
    true = {condition.type for condition in conditions if condition.status}
    for word in ("Complete", "Failed", "Suspended"):
        if word in true:
            return word
    # Its Job follows within seconds, and tells whether it completed.
    if any(one.type == "DriverRunning" and (one.status or one.reason == "Ended") for one in conditions):
        return "Running"
    return "Starting" if "ClusterReady" in true else "WaitingForCluster"


def _duration(length: timedelta) -> str:
    """Return a length of time as kubectl prints it: the two largest units."""
    seconds = max(0, int(length.total_seconds()))
    for large, small, unit, part in ((86400, 3600, "d", "h"), (3600, 60, "h", "m"), (60, 1, "m", "s")):
        if seconds >= large:
            rest = seconds % large // small
            return f"{seconds // large}{unit}" + (f"{rest}{part}" if rest else "")
    return f"{seconds}s"


def _driver_running(job: Object, observed: Observed, refusal: Trouble | None, failures: Sequence[Object]) -> Condition:
    """Say how the newest driver pod fares: why it does not run, if it does not."""
    if job["spec"].get("suspend"):
        return Condition("DriverRunning", False, "Stopped", "spec.suspend holds the driver")
    pod = observed.pods[-1] if observed.pods else {"metadata": {"name": ""}}
    name, phase = pod["metadata"]["name"], pod.get("status", {}).get("phase")
    if not refusal and failures and failures[-1]["pod"] == name:
        last = failures[-1]
        return Condition("DriverRunning", False, last["reason"], f"attempt {last['attempt']}: {last['message']}")
    # Its phase follows.
    over = phase in ("Succeeded", "Failed") or attempts.terminated(pod)
    if not over and (trouble := refusal or of_pods(observed.pods[-1:], DRIVER) or observed.trouble):
        return Condition("DriverRunning", False, trouble.reason, trouble.message)
    if over:
        return Condition("DriverRunning", False, "Ended", f"pod {name} has ended")
    if phase == "Running" and (lost := attempts.of_lost_node(pod)):
        return Condition("DriverRunning", False, lost.reason, lost.message)
    if phase == "Running":
        return Condition("DriverRunning", True, "Running", f"pod {name} runs")
    return Condition("DriverRunning", False, "Starting", "the driver's pod starts")


def _late(job: Object, conditions: Sequence[Condition]) -> Condition:
    """Say that the driver has waited for too long, and for what."""
    what = next(one for one in reversed(conditions) if one.type in ("DriverRunning", "ClusterReady"))
    within = f"the driver did not run within spec.startDeadlineSeconds, {job['spec']['startDeadlineSeconds']} s"
    return Condition("Failed", True, "StartDeadlineExceeded", f"{within}: {what.reason}: {what.message}")


def _failed(driver: Object, observed: Observed, failures: Sequence[Object]) -> Condition:
    job = find(driver, "Failed")
    assert job
    if job["reason"] == "DeadlineExceeded":
        return Condition("Failed", True, job["reason"], "the driver took longer than spec.activeDeadlineSeconds allows")
    failed = [pod for pod in observed.pods if attempts.terminated(pod)]
    if failed and observed.output:
        # The log has more than what its pod's status keeps.
        why = attempts.of_failure(failed[-1], observed.output)
    elif failed:
        why = attempts.of_failure(failed[-1])
    elif failures:
        why = Trouble(failures[-1]["reason"], failures[-1]["message"])
    else:
        why = Trouble(job["reason"], job.get("message", ""))
    return Condition("Failed", True, why.reason, why.message)
