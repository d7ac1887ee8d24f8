"""Who may connect to whom by the NetworkPolicies of the charts, as the operator has them rendered."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from operating import CHARTS, NAMESPACE, NOW, charts, cluster, condition, group, job, workers_of

from traffic import CLUSTERS, GROUPS, OPERATOR, PROMETHEUS, Place, labels
from trireme_operator.api import Object
from trireme_operator.charts import Charts, InProcess
from trireme_operator.plan import cluster as cluster_plan
from trireme_operator.plan import group as group_plan
from trireme_operator.plan import job as job_plan

SYSTEM = "trireme-system"
# Such as a driver's block manager has.
ANY_PORT = 41234
FROM = [
    {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
        "podSelector": {"matchLabels": {"app": "prometheus"}},
    }
]


@dataclass(frozen=True)
class Pod:
    """A pod as policies see it; `ports` has its containers' ports by name."""

    namespace: str
    labels: dict[str, str]
    ports: dict[str, int] = field(default_factory=dict)


def matches(selector: Object, found: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if found.get(expression["key"]) not in expression["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= found.items())


def is_peer(peer: Object, namespace: str, source: Pod) -> bool:
    assert peer.keys() <= {"namespaceSelector", "podSelector"}
    if "namespaceSelector" in peer:
        there = matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": source.namespace})
    else:
        there = source.namespace == namespace
    return there and matches(peer.get("podSelector", {}), source.labels)


def is_port(wanted: Object, target: Pod, port: int) -> bool:
    assert wanted.keys() <= {"port", "endPort"}
    if isinstance(wanted["port"], str):
        return target.ports.get(wanted["port"]) == port
    return bool(wanted["port"] <= port <= wanted.get("endPort", wanted["port"]))


def allowed(policies: Iterable[Object], source: Pod, target: Pod, port: int) -> bool:
    """Decide as the API's reference has it: a pod that a policy selects is open to whom some policy of it lets in."""
    there = [item for item in policies if item["metadata"].get("namespace", NAMESPACE) == target.namespace]
    specs = [item["spec"] for item in there if matches(item["spec"]["podSelector"], target.labels)]
    assert all(spec["policyTypes"] == ["Ingress"] for spec in specs)
    return not specs or any(
        (not rule.get("from") or any(is_peer(peer, target.namespace, source) for peer in rule["from"]))
        and (not rule.get("ports") or any(is_port(one, target, port) for one in rule["ports"]))
        for spec in specs
        for rule in spec["ingress"]
    )


def pods_of(objects: Iterable[Object], namespace: str = NAMESPACE) -> Iterable[Pod]:
    for item in objects:
        if item["kind"] in ("Deployment", "StatefulSet", "Job"):
            template = item["spec"]["template"]
            listed = [port for one in template["spec"]["containers"] for port in one.get("ports", [])]
            names = {port["name"]: port["containerPort"] for port in listed}
            yield Pod(namespace, template["metadata"]["labels"], names)


def rendered(item: Object, groups: list[Object]) -> list[Object]:
    values = cluster_plan.values(item, groups=groups, metrics_from=FROM)
    return charts.render(item["spec"]["engine"], item["metadata"]["name"], NAMESPACE, values)


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    """What the charts give for all clusters and their groups, and a driver on each."""
    found = []
    groups = [group(name, **spec) for name, spec in GROUPS.items()]
    for name, spec in CLUSTERS.items():
        told = {"observedGeneration": 3, "conditions": [condition("Ready", "True", "Ready")]}
        item = cluster(name=name, status=told, **spec)
        own = [one for one in groups if one["spec"]["clusterRef"]["name"] == name]
        found += rendered(item, own)
        for one in own:
            found += rendered(group_plan.complete(one, item), [])
        seen = job_plan.Observed(cluster=item, workers=workers_of(item))
        found += job_plan.plan(job(f"{name}-job", clusterRef={"name": name}), seen, NOW).start
    return found


@pytest.fixture(scope="module")
def operator() -> list[Object]:
    return Charts(CHARTS, InProcess()).render("trireme", "trireme", SYSTEM, {})


def who(pod: Pod) -> tuple[str, str]:
    return pod.labels["app.kubernetes.io/instance"], pod.labels["app.kubernetes.io/component"]


def open_to(source: Pod, objects: list[Object]) -> set[Place]:
    policies = [item for item in objects if item["kind"] == "NetworkPolicy"]
    return {
        (*who(target), port)
        for target in pods_of(objects)
        for port in [*target.ports.values(), 4040, ANY_PORT]
        if allowed(policies, source, target, port)
    }


def test_a_clusters_pods_reach_their_own_on_every_port_and_nothing_else(objects: list[Object]) -> None:
    policies = [item for item in objects if item["kind"] == "NetworkPolicy"]
    pods = list(pods_of(objects))
    assert {who(pod)[0] for pod in pods} == {*CLUSTERS}
    components = {who(pod)[1] for pod in pods}
    assert components >= {"worker", "driver", "connect", "history", "flower", "beat", "monitor", "group-worker"}
    for source in pods:
        for target in pods:
            for port in [*target.ports.values(), ANY_PORT]:
                opened = allowed(policies, source, target, port)
                assert opened == (who(source)[0] == who(target)[0]), (who(source), who(target), port)


def test_the_operator_reaches_what_tells_the_demand(objects: list[Object], operator: list[Object]) -> None:
    (pod,) = pods_of(operator, SYSTEM)
    drivers = {(name, "driver", 4040) for name, spec in CLUSTERS.items() if spec["engine"] == "spark"}
    assert open_to(pod, objects) == OPERATOR | drivers


def test_prometheus_reaches_what_serves_metrics(objects: list[Object]) -> None:
    drivers = {(name, "driver", 4040) for name, spec in CLUSTERS.items() if spec["engine"] == "spark"}
    assert open_to(Pod("monitoring", {"app": "prometheus"}), objects) == PROMETHEUS | drivers


@pytest.mark.parametrize(
    "source",
    [
        Pod(NAMESPACE, {}),
        Pod("monitoring", {}),
        Pod(NAMESPACE, {"app": "prometheus"}),
        Pod("elsewhere", labels("numbers")),
        Pod(NAMESPACE, {"app.kubernetes.io/instance": "numbers"}),
    ],
    ids=["any pod", "beside Prometheus", "not in its namespace", "a namesake elsewhere", "half the labels"],
)
def test_nobody_else_reaches_anything(objects: list[Object], source: Pod) -> None:
    assert open_to(source, objects) == set()


def test_the_operators_metrics_are_open_and_nothing_else_of_it(operator: list[Object]) -> None:
    policies = [item for item in operator if item["kind"] == "NetworkPolicy"]
    (pod,) = pods_of(operator, SYSTEM)
    reached = {port for port in (*pod.ports.values(), 8081, ANY_PORT) if allowed(policies, Pod("any", {}), pod, port)}
    assert reached == {8080}
