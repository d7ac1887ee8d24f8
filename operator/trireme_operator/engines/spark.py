"""Spark in standalone mode: a master, which drivers find by spark-defaults.conf."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
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
    limit = driver.container.get("resources", {}).get("limits", {}).get("memory")
    heap = max(_LEAST_HEAP, int(mebibytes(limit) * _HEAP_SHARE)) if limit is not None else _DEFAULT_HEAP
    variables = [
        # Executors connect back to the driver, whose pod has no name that resolves.
        {"name": "SPARK_LOCAL_IP", "value": "$(POD_IP)"},
        {"name": "SPARK_DRIVER_MEMORY", "value": f"{heap}m"},
    ]
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
    return max(1, int(workers) // 2) * int(cores)


SPARK = Adapter(
    name="spark",
    control="master",
    control_kind=STATEFUL_SET,
    control_image="spec.image",
    images={"image": "trireme/spark:dev"},
    endpoints=(Endpoint("master", "spark://{host}:7077"), Endpoint("ui", "http://{host}:8080")),
    has_password=False,
    shared_env=("POD_IP", "SPARK_LOCAL_HOSTNAME", "SPARK_MASTER", "SPARK_CONF_DIR"),
    shared_volumes=("code", "conf"),
    driver_env=_driver_env,
)

_ALIVE = "ALIVE"
_WORKER_STATES = (_ALIVE, "DEAD", "DECOMMISSIONED", "UNKNOWN")
# It goes into a URL.
_APPLICATION_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
# The names of applications and users are on the page, too, but their angle brackets are escaped.
_EXECUTORS = re.compile(r"<strong>Executor Limit: </strong>\s*(Unlimited|[0-9]{1,10})\s*\(([0-9]{1,10}) granted\)")
_CORES = re.compile(r"<strong>Cores:</strong>\s*(Unlimited|[0-9]{1,10})\s*\(([0-9]{1,10}) granted[,)]")
_UNLIMITED = "Unlimited"


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


def demand(
    master: object,
    limits: Mapping[str, Limit],
    pods_by_address: Mapping[str, str],
    capacity: Mapping[str, str] | None = None,
) -> Demand:
    """Return what the applications of a master ask for.

    An executor fills a worker, unless its application has executors already that show that more than one fit.

    Args:
        master: the answer of its `/json/`.
        limits: what the applications' pages say; without those of applications that have ended meanwhile.
        pods_by_address: names of the workers' pods by their IP addresses.
        capacity: what one worker offers, which counts while there is none.

    Raises:
        Nonsense: something is missing there, or can't be true; or the master does not know its workers yet.
    """
    status = _text(master, "status")
    if status != _ALIVE:
        # While it recovers, it has yet to hear of the workers, and of the executors there.
        raise Nonsense(f"status is {status!r}, where {_ALIVE!r} should be"[:200])
    workers = [worker for worker in map(_worker, _list(master, "workers")) if worker]
    cores = max((worker.cores for worker in workers), default=_figure(capacity, "cores"))
    memory = max((worker.memory for worker in workers), default=_figure(capacity, "memory") // 2**20)
    found = [_application(said, limits.get(_id(said)), cores or 1) for said in _list(master, "activeapps")]

    busy = [worker for worker in workers if worker.used]
    room = [(worker.free_cores, worker.free_memory) for worker in busy]
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
