"""The demand of clusters as Prometheus metrics, by which others can size them, too."""

from prometheus_client import Gauge

from trireme_operator.api import Object, cluster_name, is_group
from trireme_operator.engines.demand import Demand

_LABELS = ["namespace", "name", "group", "engine"]
_WORK = Gauge(
    "trireme_cluster_work", "Units of work that wait or run; none while the demand is unknown.", [*_LABELS, "state"]
)
_SLOTS = Gauge(
    "trireme_cluster_slots", "Units of work that one worker does at a time; none while the demand is unknown.", _LABELS
)
_DESIRED = Gauge(
    "trireme_cluster_desired_replicas", "Workers that the work asks for; none while the demand is unknown.", _LABELS
)
_REPLICAS = Gauge("trireme_cluster_replicas", "Workers that the cluster is set to.", _LABELS)
_KNOWN = Gauge("trireme_cluster_demand_known", "1 while the demand can be read, else 0.", _LABELS)


def tell(cluster: Object, demand: Demand | None, desired: int, current: int) -> None:
    """Set the metrics of a cluster.

    Args:
        cluster: the WorkerCluster, or a group of one.
        demand: its work; None if unknown.
        desired: workers that the autoscaler decided on.
        current: workers that it is set to.
    """
    labels = _labels(cluster)
    _REPLICAS.labels(*labels).set(current)
    _KNOWN.labels(*labels).set(demand is not None)
    if demand is None:
        _forget_demand(labels)
        return
    _WORK.labels(*labels, "waiting").set(demand.waiting)
    _WORK.labels(*labels, "running").set(demand.running)
    _SLOTS.labels(*labels).set(demand.slots)
    _DESIRED.labels(*labels).set(desired)


def forget(cluster: Object) -> None:
    """Remove the metrics of a cluster."""
    labels = _labels(cluster)
    _forget_demand(labels)
    for gauge in (_REPLICAS, _KNOWN):
        gauge.remove(*labels)


def _forget_demand(labels: tuple[str, str, str, str]) -> None:
    """Remove what would be stale, and would have others size a cluster by what it once had to do."""
    for state in ("waiting", "running"):
        _WORK.remove(*labels, state)
    for gauge in (_SLOTS, _DESIRED):
        gauge.remove(*labels)


def _labels(cluster: Object) -> tuple[str, str, str, str]:
    """Return the labels' values: the group of a cluster's own workers has no name, as if there were no such label."""
    metadata, group = cluster["metadata"], cluster["metadata"]["name"] if is_group(cluster) else ""
    return metadata["namespace"], cluster_name(cluster), group, cluster["spec"]["engine"]
