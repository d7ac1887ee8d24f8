"""Dask: a scheduler, which drivers find by their Dask configuration."""

from collections.abc import Mapping
from dataclasses import dataclass

from trireme_operator.api import DEPLOYMENT, Object
from trireme_operator.engines.adapter import Adapter, Endpoint
from trireme_operator.engines.dask_config import unknown
from trireme_operator.engines.demand import Demand, Nonsense, count, workers_for

DASK = Adapter(
    name="dask",
    control="scheduler",
    control_kind=DEPLOYMENT,
    control_image="spec.image",
    images={"image": "trireme/dask:dev"},
    endpoints=(Endpoint("scheduler", "tcp://{host}:8786"), Endpoint("dashboard", "http://{host}:8787/status")),
    has_password=False,
    shared_env=("DASK_SCHEDULER_ADDRESS", "DASK_CONFIG"),
    shared_volumes=("code", "conf"),
    # The scheduler has hung up before the client's batches (distributed.batched) waited for their next, and asyncio
    # tells of that wait if it ends just as the client's loop does. More often where other work takes the cores.
    afterword=r"Future exception was never retrieved\nfuture: <Future finished exception=TimeoutError\('Timeout'\)>\n"
    r"(\w+\.)*TimeoutError: Timeout",
    unknown=unknown,
)

# Beyond that share of their memory, distributed's own adaptive_target asks for more workers, too. Per cent.
_FULL = 60
_MOST_BYTES = 10**18
# A cost is an int32: 11 bits for tasks, and below them 20 for the MiB that count only between equals.
_MOST_TASKS = 2**11 - 1
_MOST_MEBIBYTES = 2**20 - 1


# Parts a process of a pod from the pod's name in a worker's; a pod's has none.
_PROCESS = "."


@dataclass(frozen=True)
class _Worker:
    """What a scheduler says of a worker that is not leaving, or of all processes of a pod together.

    Args:
        processing: tasks that it has begun or been given.
        threads: with which it takes tasks: 0 while it is paused.
        stored: bytes of results.
        limit: bytes of memory; 0 for no limit.
    """

    processing: int
    threads: int
    stored: int
    limit: int

    def __add__(self, other: "_Worker") -> "_Worker":
        return _Worker(
            self.processing + other.processing,
            self.threads + other.threads,
            self.stored + other.stored,
            self.limit + other.limit,
        )

    @property
    def cost(self) -> int:
        mebibytes = -(-self.stored // 2**20)
        return (min(self.processing, _MOST_TASKS) << 20) + min(mebibytes, _MOST_MEBIBYTES)


def offer(values: Object, capacity: Mapping[str, str]) -> Object:
    """Return what one worker offers, as a scheduler reads it: each process of a pod is one.

    Args:
        values: the chart's, by which the workers are made.
        capacity: what one worker offers.
    """
    resources = values.get("workerResources")
    return {
        "threads": _figure(capacity, "threads") or 1,
        # What the chart refuses, no worker has.
        "resources": {name: amount for name, amount in resources.items() if isinstance(amount, int | float)}
        if isinstance(resources, dict)
        else {},
    }


def demand(answer: object, capacity: Mapping[str, str], group: str = "") -> Demand:
    """Return what the tasks of a scheduler ask for.

    Args:
        answer: of its route /trireme/demand.
        capacity: what one worker offers.
        group: the group that was asked about; none for the cluster's own workers.

    Raises:
        Nonsense: something is missing there, or can't be true.
    """
    if group and (not isinstance(answer, Mapping) or answer.get("group") != group):
        raise Nonsense("it knows of no groups: its pod is older than its chart and has to be deleted once")
    waiting, executing, held = (count(answer, name) for name in ("waiting", "executing", "held"))
    threads, stored, workers = count(answer, "threads"), _size(answer, "stored"), _workers(answer)
    processes = _figure(capacity, "processes") or 1
    slots = (_figure(capacity, "threads") or 1) * processes
    memory = _figure(capacity, "memory") * processes or max((worker.limit for worker in workers.values()), default=0)
    least = max(
        sum(worker.processing > 0 for worker in workers.values()),
        workers_for(stored * 100, memory * _FULL) if memory else 0,
        min(1, held),
    )
    # What waits needs others than those which are paused.
    paused = sum(worker.threads == 0 for worker in workers.values()) if waiting else 0
    return Demand(
        workers=max(workers_for(threads, slots) + paused, least),
        waiting=waiting,
        running=executing,
        slots=slots,
        least=least,
        unit="tasks",
        costs={name: worker.cost for name, worker in workers.items() if worker.cost},
    )


def _workers(answer: object) -> dict[str, _Worker]:
    """Read what is said of workers, by pod."""
    found = answer.get("workers") if isinstance(answer, Mapping) else None
    if not isinstance(found, Mapping):
        raise Nonsense(f"workers is {found!r}, where workers by name should be"[:200])
    pods: dict[str, _Worker] = {}
    for name, said in found.items():
        worker, pod = _worker(f"workers.{name}", said), str(name).partition(_PROCESS)[0]
        pods[pod] = pods[pod] + worker if pod in pods else worker
    return pods


def _worker(name: str, said: object) -> _Worker:
    try:
        return _Worker(count(said, "processing"), count(said, "threads"), _size(said, "stored"), _size(said, "limit"))
    except Nonsense as problem:
        raise Nonsense(f"{name}.{problem}"[:200]) from problem


def _size(answer: object, name: str) -> int:
    found = answer.get(name) if isinstance(answer, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < _MOST_BYTES:
        raise Nonsense(f"{name} is {found!r}, where bytes should be: 0 to {_MOST_BYTES - 1}"[:200])
    return found


def _figure(capacity: Mapping[str, str], name: str) -> int:
    """Read a figure of a worker's capacity: 0 where there is none, or none that makes sense."""
    found = capacity.get(name, "")
    return int(found) if found.isdecimal() and len(found) <= len(str(_MOST_BYTES)) else 0
