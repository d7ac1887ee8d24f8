"""Whether a namespace's ResourceQuotas have room for pods that are to come."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trireme_operator import quantity
from trireme_operator.api import Object

# A quota's words for requests that a pod's spec calls by one.
_SHORT = {"cpu": "requests.cpu", "memory": "requests.memory", "ephemeral-storage": "requests.ephemeral-storage"}
_COUNTS = ("pods", "count/pods")
_OF_BYTES = ("memory", "storage", "hugepages")
# Sums of quantities are off by as much at most.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Wanted:
    """Pods that are to come.

    Args:
        count: how many.
        spec: the spec of each.
    """

    count: int
    spec: Object


def there(pods: Iterable[Object], labels: Object) -> int:
    """Return how many pods with these labels a quota counts already: all that have not ended."""
    return sum(
        labels.items() <= pod["metadata"].get("labels", {}).items()
        and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        for pod in pods
    )


def shortage(quotas: Iterable[Object], wanted: Sequence[Wanted]) -> str | None:
    """Say which quota lacks how much of what for pods that are to come; None if there is room.

    Args:
        quotas: the ResourceQuotas of their namespace.
        wanted: the pods.
    """
    for quota in sorted(quotas, key=lambda item: str(item["metadata"]["name"])):
        status = quota.get("status", {})
        hard, used = status.get("hard", quota["spec"].get("hard", {})), status.get("used", {})
        counted = [one for one in wanted if one.count > 0 and _counts(quota, one.spec)]
        lacking = []
        for resource in sorted(hard):
            needed = sum(one.count * _needs(one.spec, resource) for one in counted)
            left = max(0.0, quantity.number(hard[resource]) - quantity.number(used.get(resource, 0)))
            if needed > left + _ROUNDING:
                lacking.append(f"{resource}: {_text(resource, needed)} more needed, {_text(resource, left)} left")
        if lacking:
            return f"ResourceQuota {quota['metadata']['name']}: {', '.join(lacking)}"
    return None


def _needs(spec: Object, resource: str) -> float:
    """Return what one pod takes of a quota's resource."""
    if resource in _COUNTS:
        return 1.0
    kind, _, name = _SHORT.get(resource, resource).partition(".")
    if kind not in ("requests", "limits"):
        return 0.0
    together = sum(_of_container(container, kind, name) for container in spec.get("containers", []))
    return max([together, *(_of_container(container, kind, name) for container in spec.get("initContainers", []))])


def _of_container(container: Object, kind: str, name: str) -> float:
    resources = container.get("resources", {})
    # A request that is not given is the limit.
    found = resources.get(kind, {}).get(name) or resources.get("limits", {}).get(name, 0)
    return quantity.number(found)


def _counts(quota: Object, spec: Object) -> bool:
    """Tell whether a quota is about such pods, by its scopes."""
    return all(_in_scope(spec, *scope) for scope in _scopes(quota))


def _scopes(quota: Object) -> Iterator[tuple[str, str, list[str]]]:
    for name in quota["spec"].get("scopes", []):
        yield name, "Exists", []
    for one in quota["spec"].get("scopeSelector", {}).get("matchExpressions", []):
        yield one["scopeName"], one["operator"], one.get("values", [])


def _in_scope(spec: Object, name: str, operator: str, values: list[str]) -> bool:
    if name == "PriorityClass":
        given = spec.get("priorityClassName", "")
        found = {"In": given in values, "NotIn": given not in values, "Exists": bool(given), "DoesNotExist": not given}
        return found.get(operator, False)
    best_effort = _is_best_effort(spec)
    # What else there is, such as affinity across namespaces, none of these pods has.
    return {"NotTerminating": True, "NotBestEffort": not best_effort, "BestEffort": best_effort}.get(name, False)


def _is_best_effort(spec: Object) -> bool:
    """Tell a pod's class, by Kubernetes' documentation of the quality of service: no CPU or memory asked or limited."""
    return not any(
        quantity.number(container.get("resources", {}).get(kind, {}).get(name, 0))
        for container in (*spec.get("containers", ()), *spec.get("initContainers", ()))
        for kind in ("requests", "limits")
        for name in ("cpu", "memory")
    )


def _text(resource: str, amount: float) -> str:
    """Write an amount as a quantity."""
    if any(word in resource for word in _OF_BYTES):
        for unit, size in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
            if amount >= size:
                return f"{round(amount / size, 2):g}{unit}"
        return f"{amount:.0f}"
    return f"{round(amount, 3):g}" if amount >= 1 or amount == 0 else f"{round(amount * 1000):g}m"
