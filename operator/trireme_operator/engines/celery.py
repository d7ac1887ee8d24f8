"""Celery: a broker of its own, or one elsewhere, which drivers find by the variables that Celery itself reads."""

import json
from collections.abc import Collection, Mapping, Sequence

from trireme_operator.api import STATEFUL_SET, Object
from trireme_operator.engines.adapter import Adapter, Endpoint
from trireme_operator.engines.demand import Demand, Nonsense, count, workers_for

# Queues of what never works, which no cluster's own workers consume.
_PUT_ASIDE = frozenset({"trireme.dead", "trireme.poison"})
AMQP_PORT = "tcp-amqp"
"""Port of a broker that is RabbitMQ, of which the chart's monitor tells what waits; Redis tells by itself."""


def _left_to_groups(cluster: Object, groups: Sequence[Object]) -> Object:
    """Leave the groups' queues to them, unless the cluster says itself which its own workers consume.

    A group that runs again what was put aside takes nothing from them, so it comes and goes without rolling them.
    """
    if cluster.get("celery", {}).get("queues"):
        return {}
    queues = {queue for group in groups for queue in group.get("celery", {}).get("queues", ())} - _PUT_ASIDE
    return {"excludeQueues": sorted(queues)} if queues else {}


def _unfit(group: Object) -> str:
    if "autoscaling" not in group or group.get("celery", {}).get("queues"):
        return ""
    return "spec.celery.queues: a group with spec.autoscaling is sized by queues of its own: name them here"


CELERY = Adapter(
    name="celery",
    control="broker",
    control_kind=STATEFUL_SET,
    control_image="spec.values.broker.image",
    images={
        "image": "trireme/celery:dev",
        "broker": {"images": {"redis": "trireme/redis:dev", "rabbitmq": "trireme/rabbitmq:dev"}},
        "flower": {"image": "trireme/celery:dev"},
    },
    endpoints=(
        Endpoint("broker", "redis://{host}:6379", "tcp-redis"),
        Endpoint("broker", "amqp://{host}:5672", AMQP_PORT),
        Endpoint("flower", "http://{host}:5555", component="flower"),
    ),
    has_password=True,
    shared_env=("REDIS_PASSWORD", "RABBITMQ_PASSWORD", "CELERY_LOADER", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"),
    shared_volumes=("code", "conf", "scripts", "broker-tls"),
    monitor="monitor",
    autoscaled={"monitor": {"demand": True}},
    beside=_left_to_groups,
    unfit=_unfit,
)

# Kombu parts queue and priority so, in as many as ten lists a queue; those that are not used are not there.
_SEPARATOR = "\x06\x16"
_PRIORITIES = 10
_DEFAULT_QUEUE = "celery"
_MOST_LISTS = 1000
# Of a number that somebody else wrote.
_MOST_DIGITS = 10


def places(said: Mapping[str, str], celery: Object, group: str = "") -> tuple[list[str], str]:
    """Return the Redis lists in which tasks wait, and the hash of those that workers hold.

    Args:
        said: what the workers last wrote about that; empty if none has ever run.
        celery: spec.celery of the cluster, for that case.
        group: name of the workers' group, for that case; empty for the cluster's own.

    Raises:
        Nonsense: the workers did not write that.
    """
    if not said:
        queues = celery.get("queues") or [celery.get("config", {}).get("task_default_queue") or _DEFAULT_QUEUE]
        lists = [
            f"{queue}{_SEPARATOR}{priority}" if priority else str(queue)
            for queue in queues
            for priority in range(_PRIORITIES)
        ]
        return lists[:_MOST_LISTS], f"unacked.{group}" if group else "unacked"
    try:
        found, unacked = json.loads(said["lists"]), said["unacked"]
    except (KeyError, RecursionError, ValueError) as error:
        raise Nonsense(f"trireme.work is {dict(said)!r}"[:200]) from error
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found) or len(found) > _MOST_LISTS:
        raise Nonsense(f"trireme.work: lists is {said['lists']!r}"[:200])
    return found, unacked


def demand(
    lengths: Sequence[object], unacked: object, active: Mapping[str, object], capacity: Mapping[str, str]
) -> Demand:
    """Return what the tasks in a broker ask for: each that waits or runs wants a process.

    Args:
        lengths: of the lists in which tasks wait.
        unacked: number of tasks that workers hold and have not acknowledged.
        active: tasks that each worker says it runs, by pod; None or left out where it says nothing.
        capacity: what one worker offers.

    Raises:
        Nonsense: one of these is no count.
    """
    waiting = sum(count({"length": length}, "length") for length in lengths)
    costs = {pod: _active(number) for pod, number in active.items() if number is not None}
    return _demand(waiting, count({"unacked": unacked}, "unacked"), costs, capacity)


def monitored(answer: object, pods: Collection[str], capacity: Mapping[str, str]) -> Demand:
    """Return what the tasks in a broker elsewhere ask for.

    Args:
        answer: what the chart's monitor tells of it.
        pods: names of the workers' pods; others may consume the same queues.
        capacity: what one worker offers.

    Raises:
        Nonsense: something is missing there, or can't be true.
    """
    waiting, unacknowledged = count(answer, "waiting"), count(answer, "unacknowledged")
    held = answer.get("held") if isinstance(answer, Mapping) else None
    if not isinstance(held, Mapping):
        raise Nonsense(f"held is {held!r}, where tasks by pod should be"[:200])
    return _demand(waiting, unacknowledged, {pod: count(held, pod) for pod in held if pod in pods}, capacity)


def _demand(waiting: int, unacknowledged: int, costs: Mapping[str, int], capacity: Mapping[str, str]) -> Demand:
    offered = capacity.get("processes", capacity.get("threads", ""))
    slots = max(1, int(offered)) if offered.isdecimal() and len(offered) <= _MOST_DIGITS else 1
    # Tasks that are acknowledged early are with a worker, and not with the broker any more.
    running = max(unacknowledged, sum(costs.values()))
    return Demand(
        workers=workers_for(waiting + running, slots),
        waiting=waiting,
        running=running,
        slots=slots,
        least=max(workers_for(running, slots), sum(number > 0 for number in costs.values())),
        unit="tasks",
        costs=costs,
    )


def _active(number: object) -> int:
    if not isinstance(number, str) or not number.isdecimal() or len(number) > _MOST_DIGITS:
        raise Nonsense(f"trireme.active is {number!r}"[:200])
    return count({"active": int(number)}, "active")
