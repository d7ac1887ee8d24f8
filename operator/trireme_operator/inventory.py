"""What there is, as Prometheus metrics: conditions, workers, jobs; counted at each scrape, so that nothing is stale."""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from trireme_operator.api import GROUP, WATCHED, WORKER_CLUSTER, WORKER_JOB, Key, Object
from trireme_operator.plan.conditions import is_true
from trireme_operator.plan.job import is_anothers
from trireme_operator.store import Store

# Jobs stay when they have ended, as many as there ever were: they are counted, and have no series of their own.
_LASTING = [kind.kind for kind in WATCHED if kind.group == GROUP and kind != WORKER_JOB]
_OBJECT = ["kind", "namespace", "name", "engine"]


def engine_of(item: Object, store: Store) -> str:
    """Return the engine of a resource, by its cluster's where it names one; empty if that is not known."""
    spec = item["spec"]
    if "engine" in spec:
        return str(spec["engine"])
    if "clusterTemplate" in spec:
        return str(spec["clusterTemplate"]["spec"]["engine"])
    name = spec.get("clusterRef", {}).get("name", "")
    cluster = store.get(Key(WORKER_CLUSTER.kind, item["metadata"]["namespace"], name))
    return str(cluster["spec"]["engine"]) if cluster else ""


class Inventory(Collector):
    """Tells what the store has; from the thread that serves metrics, which only reads.

    Args:
        store: what was last seen.
        leads: whether this operator reconciles; of several, one alone tells, lest all is counted twice.
    """

    def __init__(self, store: Store, leads: Callable[[], bool]) -> None:
        self._store = store
        self._leads = leads

    def describe(self) -> list[GaugeMetricFamily]:
        """Return the metrics without their samples."""
        return [
            GaugeMetricFamily(
                "trireme_condition",
                "1 if a resource's condition is True, else 0; jobs left out.",
                labels=[*_OBJECT, "condition", "reason"],
            ),
            GaugeMetricFamily(
                "trireme_workers", "Workers of a resource: desired, and ready.", labels=[*_OBJECT, "state"]
            ),
            GaugeMetricFamily(
                "trireme_jobs", "WorkerJobs by state, ended ones included.", labels=["namespace", "engine", "state"]
            ),
        ]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the metrics; none while another operator tells them."""
        conditions, workers, jobs = self.describe()
        if not self._leads():
            return
        for item in (item for kind in _LASTING for item in self._store.of_kind(kind)):
            metadata, status = item["metadata"], item.get("status", {})
            labels = [item["kind"], metadata["namespace"], metadata["name"], engine_of(item, self._store)]
            for condition in status.get("conditions", []):
                conditions.add_metric(
                    [*labels, condition["type"], condition["reason"]], float(condition["status"] == "True")
                )
            if "readyReplicas" in status:
                # A group is suspended by its cluster, too, which its condition tells.
                suspended = item["spec"].get("suspend") or is_true(item, "Suspended")
                desired = 0 if suspended else item["spec"].get("replicas", 1)
                workers.add_metric([*labels, "desired"], desired)
                workers.add_metric([*labels, "ready"], status["readyReplicas"])
        # Of a job that another looks after, nothing is known here.
        own = (job for job in self._store.of_kind(WORKER_JOB.kind) if not is_anothers(job))
        for (namespace, engine, state), number in Counter(map(self._job, own)).items():
            jobs.add_metric([namespace, engine, state], number)
        yield from (conditions, workers, jobs)

    def _job(self, job: Object) -> tuple[str, str, str]:
        state = job.get("status", {}).get("state", "WaitingForCluster")
        return job["metadata"]["namespace"], engine_of(job, self._store), state
