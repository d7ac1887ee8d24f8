"""Why pods do not run: what Kubernetes says of them, in words that name the field to mend."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from trireme_operator.api import Object
from trireme_operator.plan.conditions import moment

# The kubelet alternates between trying and backing off: one reason for both, lest conditions flap.
_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
# In the words of the API server's admission plugin LimitRanger.
_LIMIT_RANGE = re.compile(r"(minimum|maximum) \S+ usage per \S+ is|max limit to request ratio per")
_START = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}

# What the scheduler tried beyond, which helps nobody to find room.
_PREEMPTION = re.compile(r"\. (?:no new claims to deallocate, )?preemption: ")
# What lasts until somebody makes it; a kubelet says other things while it only has not heard of it yet.
_MOUNT = re.compile(
    r'MountVolume\.SetUp failed for volume "(?P<volume>[^"]*)" : (?P<why>.*(?:not found|non-existent).*)'
)
# A claim that a pod names, and that nobody can lower requests for.
_CLAIM = re.compile(r'persistentvolumeclaim "[^"]*" (?:not found|is being deleted)')
# A Secret or ConfigMap that a container's variables come from, or a key of it; in the kubelet's words.
_REFERENCE = re.compile(r'(?:secrets?|configmaps?) "[^"]*" not found|couldn\'t find key ')
# Longer than most pods take to start, lest each start costs a request more.
_LONG = timedelta(seconds=10)
# 128 and the signal's number.
_KILLED = 137
# The kubelet's word, always with that code, for a container that was removed before it was seen to end
# (https://github.com/kubernetes/kubernetes/issues/104107).
_UNSEEN = "ContainerStatusUnknown"
_SEGMENTATION_FAULT = 139
_CRASHES = "often by code that comes from another Python version; compare that of the driver's image with the workers'"


@dataclass(frozen=True)
class Fields:
    """Where a pod's image and resources are set, such as `spec.image` and `spec.resources`; its priority, too."""

    image: str
    resources: str
    priority: str = "priorityClassName"


_ANY = Fields("the image", "the resources")


@dataclass(frozen=True)
class Trouble:
    """What is wrong: a reason in one word, and a message for people that does not change while it stays wrong."""

    reason: str
    message: str


def of_pods(pods: Iterable[Object], fields: Fields) -> Trouble | None:
    """Return what is wrong with the first pod that something is wrong with."""
    for pod in pods:
        if "deletionTimestamp" not in pod["metadata"] and (found := _of_pod(pod, fields)):
            return found
    return None


def waits_for_secret(pods: Iterable[Object], name: str) -> bool:
    """Tell whether a pod can't start because there is no Secret of this name."""
    # In the kubelet's words, whether it asks the API server (secrets "x" not found) or knows (secret "x" not found).
    told = re.compile(rf'\bsecrets? "{re.escape(name)}" not found')
    return any(
        told.search(container.get("state", {}).get("waiting", {}).get("message", ""))
        for pod in pods
        for container in pod.get("status", {}).get("containerStatuses", [])
    )


def long_about_to_start(pods: Iterable[Object], now: datetime) -> Object | None:
    """Return the first pod that its node has had for long without a container: its events tell what it waits for."""
    for pod in pods:
        status = pod.get("status", {})
        states = [one.get("state", {}) for one in status.get("containerStatuses", [])]
        waits = any(state.get("waiting", {}).get("reason") == "ContainerCreating" for state in states)
        if waits and "startTime" in status and now - moment(status["startTime"]) >= _LONG:
            return pod
    return None


def not_mounted(message: str) -> Trouble | None:
    """Say which volume can't be mounted for something that is not there, from a pod's event."""
    if found := _MOUNT.search(message):
        what = f"volume {found['volume']} can't be mounted: {found['why'].strip()}"
        return Trouble("FailedMount", f"{what}: create it, or correct its name")
    return None


def _of_pod(pod: Object, fields: Fields) -> Trouble | None:
    status = pod.get("status", {})
    if status.get("reason") == "Evicted":
        return Trouble("Evicted", status.get("message", "a pod was evicted"))
    for container in status.get("containerStatuses", []):
        if found := _of_container(container, fields):
            return found
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            why = _PREEMPTION.split(condition.get("message", ""))[0].rstrip(".")
            room = f"lower {fields.resources}.requests, or add nodes"
            fix = "create the claim, or correct its name among the volumes" if _CLAIM.search(why) else room
            return Trouble(condition.get("reason", "Unschedulable"), f"no node takes a pod: {why}: {fix}")
    return None


def _of_container(container: Object, fields: Fields) -> Trouble | None:
    waiting = container.get("state", {}).get("waiting", {})
    reason = waiting.get("reason", "")
    if reason in _IMAGE:
        return Trouble(
            "ImagePullBackOff",
            f"{fields.image}: {container['image']} can't be pulled: correct its name, or give access to it",
        )
    if reason in _START:
        why = f"a container can't be started: {waiting.get('message', '')}"
        return Trouble(reason, f"{why}: create it, or correct its name" if _REFERENCE.search(why) else why)
    last = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    if last and (reason == "CrashLoopBackOff" or last.get("exitCode")):
        return Trouble(
            "OOMKilled" if last.get("reason") == "OOMKilled" else "CrashLoopBackOff",
            f"the {container['name']} {ended(last, fields)}",
        )
    return None


def was_killed(terminated: Object) -> bool:
    """Tell whether somebody killed a container that has ended: the kernel, for memory, or Kubernetes."""
    return terminated.get("exitCode") == _KILLED and terminated.get("reason") != _UNSEEN


def ended(terminated: Object, fields: Fields) -> str:
    """Say how a container ended."""
    if terminated.get("reason") == "OOMKilled":
        return f"used more memory than {fields.resources}.limits.memory gives it (exit code 137)"
    if terminated["exitCode"] == _SEGMENTATION_FAULT:
        return f"crashed (exit code {_SEGMENTATION_FAULT}, a segmentation fault): {_CRASHES}"
    if terminated.get("reason") == _UNSEEN:
        return "ended, and Kubernetes did not see how"
    lines = terminated.get("message", "").strip().splitlines()
    last = f": {lines[-1].strip()}" if lines else ""
    if was_killed(terminated):
        # containerd at times misses that the kernel killed for memory, and calls the reason Error.
        return f"was killed (exit code {_KILLED}), often for using more than {fields.resources}.limits.memory{last}"
    return f"ended with exit code {terminated['exitCode']}{last}"


def not_made(message: str, fields: Fields = _ANY) -> Trouble:
    """Say why a controller can't make pods, from its event or condition; without names, which change with each try."""
    text = re.sub(r"^(Error creating|create Pod \S+ in StatefulSet \S+ failed error): ", "", message)
    text = re.sub(r'(pods|Pod) "[^"]*" is (forbidden|invalid): ', "", text)
    if "exceeded quota" in text:
        return Trouble("QuotaExceeded", f"{text}: lower {fields.resources}, or raise the quota")
    if "must specify" in text:
        return Trouble("FailedCreate", f"can't be made: {text}: set it in {fields.resources}")
    if _LIMIT_RANGE.search(text):
        return Trouble("LimitRangeViolated", f"{text}: change {fields.resources}, or the LimitRange")
    if "no PriorityClass with name" in text:
        return Trouble("FailedCreate", f"can't be made: {text}: create it, or correct {fields.priority}")
    return Trouble("FailedCreate", f"can't be made: {text}")


def of_deployment(deployment: Object, fields: Fields = _ANY) -> Trouble | None:
    """Return why a Deployment can't make its pods."""
    for condition in deployment.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return not_made(condition.get("message", ""), fields)
    return None
