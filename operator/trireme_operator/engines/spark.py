"""Spark: a standalone master, which drivers find by spark-defaults.conf, or a Spark Connect server in its front."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from trireme_operator.api import STATEFUL_SET, Object
from trireme_operator.engines.adapter import Adapter, Driver, Endpoint
from trireme_operator.engines.demand import Demand, Nonsense, count, workers_for
from trireme_operator.quantity import mebibytes

# The rest of a driver's pod is for Python and for what a JVM takes beside its heap.
_HEAP_SHARE = 0.6
# UnifiedMemoryManager refuses less than 450 MiB.
_LEAST_HEAP = 470
_DEFAULT_HEAP = 1024
_CORES_MAX = "spark.cores.max"


def _driver_env(driver: Driver) -> list[Object]:
    if driver.cluster.get("spark", {}).get("mode") == "connect":
        # A client: what runs is its server's.
        return []
    limit = driver.container.get("resources", {}).get("limits", {}).get("memory")
    heap = max(_LEAST_HEAP, int(mebibytes(limit) * _HEAP_SHARE)) if limit is not None else _DEFAULT_HEAP
    # By SPARK_LOCAL_HOSTNAME executors connect back to the driver, whose pod has no name that resolves. SPARK_LOCAL_IP
    # would do, too, but bind the driver's pages to that address alone: a port-forward comes to the loopback one.
    variables = [{"name": "SPARK_DRIVER_MEMORY", "value": f"{heap}m"}]
    most = _most_cores(driver)
    if most is not None:
        # Goes before spark-defaults.conf, and after what the program itself sets.
        variables.append({"name": "PYSPARK_SUBMIT_ARGS", "value": f"--conf {_CORES_MAX}={most} pyspark-shell"})
    return variables


def _most_cores(driver: Driver) -> int | None:
    """Return how many cores an application may take that does not say so itself: half of a cluster that it borrows.

    At least one worker's; and half of the largest size, of a cluster that grows by itself. A standalone master gives
    the first application all there is, and the next one waits.
    """
    cores = driver.capacity.get("cores", "")
    if not driver.borrows or not cores.isdecimal() or _CORES_MAX in driver.properties:
        return None
    workers = driver.cluster.get("autoscaling", {}).get("maxReplicas", driver.cluster.get("replicas", 1))
    # One that only workers of a group have room for is one all the same.
    own = driver.cluster.get("spark", {}).get("executor", {}).get("cores", 0)
    executor = str(driver.properties.get("spark.executor.cores", own))
    return max(max(1, int(workers) // 2) * int(cores), int(executor) if executor.isdecimal() else 0)


def _room(cluster: Object, groups: Sequence[Object]) -> Object:
    """Say how large the groups' workers are, because executors may be for those."""
    limits = [{**cluster, **group}.get("resources", {}).get("limits", {}) for group in groups]
    given = [{"cpu": one["cpu"], "memory": one["memory"]} for one in limits if {"cpu", "memory"} <= one.keys()]
    return {"groups": given} if given else {}


def _unfit(group: Object) -> str:
    if "autoscaling" not in group:
        return ""
    return (
        "spec.autoscaling: executors run on any worker with room for them, so only the cluster's own workers are sized"
        " by them: set spec.replicas here, and spec.autoscaling of the WorkerCluster"
    )


def _forgets(master: Object) -> str:
    """Say what to set where a master's recovery files go with its pod: drivers wait to hear of the next one from it."""
    volumes = master["spec"].get("volumes", [])
    goes = any(volume["name"] == "recovery" and "emptyDir" in volume for volume in volumes)
    return "spec.spark.master.persistence keeps what a master knows" if goes else ""


SPARK = Adapter(
    name="spark",
    control="master",
    control_kind=STATEFUL_SET,
    control_image="spec.image",
    images={"image": "trireme/spark:dev", "connect": {"clientImage": "trireme/spark-client:dev"}},
    endpoints=(
        Endpoint("master", "spark://{host}:7077"),
        Endpoint("ui", "http://{host}:8080"),
        Endpoint("connect", "sc://{host}:15002", component="connect"),
        Endpoint("connect-ui", "http://{host}:4040", component="connect"),
        Endpoint("history", "http://{host}:18080", component="history"),
    ),
    has_password=True,
    shared_env=("POD_IP", "SPARK_LOCAL_HOSTNAME", "SPARK_MASTER", "SPARK_CONF_DIR", "_SPARK_AUTH_SECRET"),
    shared_volumes=("code", "conf"),
    driver_env=_driver_env,
    beside=_room,
    unfit=_unfit,
    driver_ports=({"name": "http-ui", "containerPort": 4040},),
    servers=("connect",),
    forgets=_forgets,
    # Warnings as the chart has them printed, with their traces: most are of messages that are still on their way to a
    # part of the application that has stopped. An error stays, for it may be why a program failed.
    afterword=r"\d{4}-\d\d-\d\dT[\d:.]{12} WARN [\w$]+: .*"
    r"(?:\n(?:(?:[a-z]\w*\.)+[A-Z][\w$]*(?:: .*)?|\t(?:at|\.\.\.|Suppressed:) .*|Caused by: .*))*",
)

_ALIVE = "ALIVE"
_WORKER_STATES = (_ALIVE, "DEAD", "DECOMMISSIONED", "UNKNOWN")
# It goes into a URL.
_APPLICATION_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
# The names of applications and users are on the page, too, but their angle brackets are escaped.
_EXECUTORS = re.compile(r"<strong>Executor Limit: </strong>\s*(Unlimited|[0-9]{1,10})\s*\(([0-9]{1,10}) granted\)")
_CORES = re.compile(r"<strong>Cores:</strong>\s*(Unlimited|[0-9]{1,10})\s*\(([0-9]{1,10}) granted[,)]")
_UNLIMITED = "Unlimited"
_DRIVER = re.compile(r'<a href="http://([0-9a-fA-F.:]{2,45}):4040">Application Detail UI</a>')

NAMESPACE = "spark"
"""What drivers' metrics are called by, in place of their application's id: the chart's spark.metrics.namespace."""

_ALLOCATION = ".driver.ExecutorAllocationManager.executors."
_MAX_EXECUTORS = "spark.dynamicAllocation.maxExecutors"
_BACKLOG_TIMEOUT = "spark.dynamicAllocation.schedulerBacklogTimeout"
# Work that is over by then is none that a driver asks executors for.
_BACKLOG_MS = 1000


@dataclass(frozen=True)
class Limit:
    """What an application asks for, as far as only its page says so.

    Args:
        executors: as many as it has use for now, by dynamic allocation; None without that.
        cores: as many as it may have, by spark.cores.max; None for any number.
        executor_cores: of each of its executors; 0 while it has none.
    """

    executors: int | None
    cores: int | None
    executor_cores: int


@dataclass(frozen=True)
class Allocation:
    """What a driver's ExecutorAllocationManager knows.

    Args:
        application: its id.
        needed: executors that would do all waiting and running tasks at once.
        target: those that it has asked its master for.
        present: those that it has.
    """

    application: str
    needed: int
    target: int
    present: int

    @property
    def is_behind(self) -> bool:
        """Whether it is about to ask for more.

        It may be while some are on their way, too; by the time that they are there, it has asked for all.
        """
        return self.target <= self.present < self.needed

    @property
    def at_least(self) -> int:
        """What it asks for in any case: what it has asked for, and one where it has none, because tasks wait for it."""
        return max(self.asked, int(self.is_behind and not self.present))

    @property
    def asked(self) -> int:
        """What it has asked for, and has use for.

        A master that was started anew has forgotten it, and a driver asks for nothing twice.
        """
        return min(self.needed, self.target)


@dataclass(frozen=True)
class Ahead:
    """What a driver tells before its master does, in executors.

    Args:
        executors: what it is about to ask for, in all.
        asked: what it has asked for.
    """

    executors: int = 0
    asked: int = 0


@dataclass(frozen=True)
class _Worker:
    """A living worker; memory in MiB."""

    host: str
    cores: int
    free_cores: int
    memory: int
    free_memory: int

    @property
    def used(self) -> int:
        return self.cores - self.free_cores


@dataclass(frozen=True)
class _Application:
    """An application's executors.

    Args:
        granted: those that it has.
        waiting: those that it asks for besides.
        cores: of each, at least 1.
        memory: of each, in MiB.
    """

    granted: int
    waiting: int
    cores: int
    memory: int

    def fits(self, cores: int, memory: int) -> int:
        """Return how many executors have room."""
        return min(cores // self.cores, memory // max(1, self.memory))


def applications(master: object) -> list[str]:
    """Return the applications whose pages have to be read: `/app/?appId=ID` on the master.

    Args:
        master: the answer of its `/json/`.

    Raises:
        Nonsense: there is none, or one that can't be in a URL.
    """
    return [_id(said) for said in _list(master, "activeapps")]


def executor_limit(page: str) -> Limit:
    """Read an application's page, because the master tells no other way what a running one asks for.

    Raises:
        Nonsense: it is not there, or it is the page of something else.
    """
    executors, granted = _limited(page, _EXECUTORS, "Executor Limit")
    cores, granted_cores = _limited(page, _CORES, "Cores")
    return Limit(executors, cores, executor_cores=workers_for(granted_cores, granted) if granted else 0)


def driver_address(page: str) -> str:
    """Read from an application's page where its driver is; empty if that does not tell."""
    found = _DRIVER.search(page)
    return found.group(1) if found else ""


def allocation(metrics: object) -> Allocation | None:
    """Read a driver's `/metrics/json/`; None without dynamic allocation.

    Raises:
        Nonsense: something is missing there, or can't be true.
    """
    gauges = metrics.get("gauges") if isinstance(metrics, Mapping) else None
    if not isinstance(gauges, Mapping):
        raise Nonsense(f"gauges is {gauges!r}, where an object should be"[:200])
    found = {name.partition(_ALLOCATION)[0] for name in gauges if isinstance(name, str) and _ALLOCATION in name}
    if not found:
        return None
    # One whose metrics have another namespace is not among the master's by that name.
    application = _id({"id": min(found)})
    names = ("numberMaxNeededExecutors", "numberTargetExecutors", "numberAllExecutors")
    needed, target, present = (count(gauges.get(f"{application}{_ALLOCATION}{name}"), "value") for name in names)
    return Allocation(application, needed, target, present)


def executors_ahead(found: Allocation, environment: object, stages: object) -> int:
    """Return how many executors a driver that is behind will ask for once its tasks have waited for a second.

    Args:
        found: what it knows.
        environment: the answer of its `/api/v1/applications/ID/environment`.
        stages: that of `/api/v1/applications/ID/stages?status=active`.

    Raises:
        Nonsense: something is missing there, or can't be true.
    """
    pairs = [pair for pair in _list(environment, "sparkProperties") if isinstance(pair, list) and len(pair) == 2]
    properties = {name: value for name, value in pairs if isinstance(name, str) and isinstance(value, str)}
    if properties.get(_BACKLOG_TIMEOUT, "1s") not in ("1", "1s"):
        # Its user wants it to wait for longer, and knows better.
        return 0
    needed = min(found.needed, _figure(properties, _MAX_EXECUTORS) or found.needed)
    # As Spark reckons itself, where these are not set.
    cores, cpus = (max(1, _figure(properties, name)) for name in ("spark.executor.cores", "spark.task.cpus"))
    slots = max(1, cores // cpus)
    return min(needed, workers_for(_slots_needed(stages, found.present * slots), slots))


def ahead(limit: Limit, executors: int) -> Limit:
    """Return the limit of an application that is about to be as high; only dynamic allocation raises one."""
    return limit if limit.executors is None else replace(limit, executors=max(limit.executors, executors))


def unheard(limits: Mapping[str, Limit], told: Mapping[str, Ahead]) -> list[str]:
    """Return the applications whose drivers have asked for executors of which their master does not know.

    For a moment that is so of each that asks for more.

    Args:
        limits: what the applications' pages say.
        told: what their drivers say.
    """
    return [
        name
        for name, limit in limits.items()
        # While it has some, what it has use for changes with each task that ends, and it asks again.
        if name in told
        and limit.executors is not None
        and limit.executors < told[name].asked
        and not limit.executor_cores
    ]


def forgotten(names: Sequence[str]) -> str:
    """Say for people that applications get no executors, because their master does not know that they want some."""
    return (
        f"{', '.join(sorted(names))} asked for executors before the master was started anew, which does not know that,"
        " and a driver asks only once: start its driver anew"
    )


def demand(
    master: object,
    limits: Mapping[str, Limit],
    pods_by_address: Mapping[str, str],
    capacity: Mapping[str, str] | None = None,
    others: Collection[str] = (),
) -> Demand:
    """Return what the applications of a master ask for, beside what workers of further groups have room for.

    An executor fills a worker, unless its application has executors already that show that more than one fit.

    Args:
        master: the answer of its `/json/`.
        limits: what the applications' pages say; without those of applications that have ended meanwhile.
        pods_by_address: names of the workers' pods by their IP addresses.
        capacity: what one worker offers, which counts while there is none.
        others: IP addresses of the workers of further groups.

    Raises:
        Nonsense: something is missing there, or can't be true; or the master does not know its workers yet.
    """
    status = _text(master, "status")
    if status != _ALIVE:
        # While it recovers, it has yet to hear of the workers, and of the executors there.
        raise Nonsense(f"status is {status!r}, where {_ALIVE!r} should be"[:200])
    known = [worker for worker in map(_worker, _list(master, "workers")) if worker]
    workers = [worker for worker in known if worker.host not in others]
    cores = max((worker.cores for worker in workers), default=_figure(capacity, "cores"))
    memory = max((worker.memory for worker in workers), default=_figure(capacity, "memory") // 2**20)
    found = [_application(said, limits.get(_id(said)), cores or 1) for said in _list(master, "activeapps")]

    busy = [worker for worker in workers if worker.used]
    # Groups have as many workers as they are set to, busy or not.
    free = [*busy, *(worker for worker in known if worker.host in others)]
    room = [(worker.free_cores, worker.free_memory) for worker in free]
    more, slots = 0, []
    for application in found:
        waiting, room = _placed(application, room)
        fit = application.fits(cores, memory) if cores and memory else 1
        if fit:
            # Executors that fit no worker wait for ever, however many workers there are.
            more += workers_for(waiting, fit)
            slots.append(fit)
    return Demand(
        workers=len(busy) + more,
        waiting=sum(application.waiting for application in found),
        running=sum(application.granted for application in found),
        slots=min(slots, default=1),
        least=len(busy),
        unit="executors",
        costs={pods_by_address[worker.host]: worker.used for worker in workers if worker.host in pods_by_address},
    )


def _placed(application: _Application, room: list[tuple[int, int]]) -> tuple[int, list[tuple[int, int]]]:
    """Return how many executors have no room beside others, and the room that the rest leaves."""
    waiting, left = application.waiting, []
    for cores, memory in room:
        taken = min(waiting, application.fits(cores, memory))
        waiting -= taken
        left.append((cores - taken * application.cores, memory - taken * application.memory))
    return waiting, left


def _application(said: object, limit: Limit | None, worker_cores: int) -> _Application:
    granted_cores, memory, state = count(said, "cores"), count(said, "memoryperexecutor"), _text(said, "state")
    cores = (limit.executor_cores if limit else 0) or worker_cores
    granted = workers_for(granted_cores, cores)
    wanted = _wanted(limit, cores) if limit else int(state == "WAITING")
    # It has more than it asks for until the idle ones have timed out.
    return _Application(granted, max(0, wanted - granted), cores, memory)


def _wanted(limit: Limit, cores: int) -> int:
    """Return how many executors of so many cores an application asks for; at least 1 if it does not say."""
    wanted = [] if limit.executors is None else [limit.executors]
    if limit.cores is not None:
        # While it has no executor, theirs may still turn out to be smaller.
        wanted.append(max(1, limit.cores // cores))
    return min(wanted, default=1)


def _slots_needed(stages: object, slots: int) -> int:
    """Return how many slots all tasks of the active stages keep busy for the next second.

    What Spark says of a stage may be as of its last task but some, but all of that at one time.
    """
    if not isinstance(stages, list):
        raise Nonsense(f"stages are {stages!r}, where a list should be"[:200])
    submitted = [_milliseconds(stage, "submissionTime") for stage in stages]
    busy = unknown = 0
    for stage, since in zip(stages, submitted, strict=True):
        complete = count(stage, "numCompleteTasks")
        left = max(0, count(stage, "numTasks") - complete)
        # Where none has ended yet, none did for as long as there are younger stages.
        length = count(stage, "executorRunTime") // max(1, complete) or (0 if complete else max(submitted) - since)
        busy += left * min(_BACKLOG_MS, length)
        unknown += 0 if length else left
    if busy >= slots * _BACKLOG_MS:
        # Others take all slots. Else it may be that the first of these tasks run already, and how long they take is
        # not known: if it is long, Spark asks in a second itself.
        busy += unknown * _BACKLOG_MS
    return workers_for(busy, _BACKLOG_MS)


def _milliseconds(said: object, name: str) -> int:
    """Read a time, as they are in Spark's answers, in milliseconds since 1970."""
    found = _text(said, name)
    try:
        return round(datetime.strptime(found, "%Y-%m-%dT%H:%M:%S.%fGMT").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError as error:
        raise Nonsense(f"{name} is {found!r}, where a time should be"[:200]) from error


def _worker(said: object) -> _Worker | None:
    """Read a worker; None if it is gone or leaving, whatever the master still thinks that it uses."""
    host, state = _text(said, "host"), _text(said, "state")
    if state not in _WORKER_STATES:
        raise Nonsense(f"state is {state!r}, where one of {', '.join(_WORKER_STATES)} should be"[:200])
    cores, used, memory, memory_used = (count(said, name) for name in ("cores", "coresused", "memory", "memoryused"))
    if used > cores:
        raise Nonsense(f"coresused is {used}, of {cores} cores")
    if memory_used > memory:
        raise Nonsense(f"memoryused is {memory_used}, of {memory} MiB")
    return _Worker(host, cores, cores - used, memory, memory - memory_used) if state == _ALIVE else None


def _limited(page: str, what: re.Pattern[str], name: str) -> tuple[int | None, int]:
    """Read a limit, and how much of it is granted."""
    found = what.search(page)
    if not found:
        raise Nonsense(f"{name} is missing from the page {page[:80]!r}")
    limit, granted = found.groups()
    return None if limit == _UNLIMITED else count({name: int(limit)}, name), count({name: int(granted)}, name)


def _list(answer: object, name: str) -> list[Any]:
    found = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(found, list):
        raise Nonsense(f"{name} is {found!r}, where a list should be"[:200])
    return found


def _text(answer: object, name: str) -> str:
    found = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(found, str) or not found:
        raise Nonsense(f"{name} is {found!r}, where a text should be"[:200])
    return found


def _id(said: object) -> str:
    found = _text(said, "id")
    if not _APPLICATION_ID.fullmatch(found):
        raise Nonsense(f"id is {found!r}, where an application's should be"[:200])
    return found


def _figure(capacity: Mapping[str, str] | None, name: str) -> int:
    """Read a figure of a worker's capacity: 0 where there is none, or none that makes sense."""
    found = (capacity or {}).get(name, "")
    return int(found) if re.fullmatch("[0-9]{1,18}", found) else 0
