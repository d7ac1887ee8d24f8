"""Where workers may run: the value `placement`, and the fields that it stands for."""

from collections.abc import Callable

import pytest
from charting import ENGINES, NAME, Object, Render, environment
from helm_python import HelmRenderError, HelmValuesError

NEAR = {"nodeLabels": {"disk": "fast"}}
BESIDE = {"podLabels": {"app": "store"}}
NODE = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]}
PODS = {"labelSelector": {"matchLabels": {"app": "store"}}, "topologyKey": "kubernetes.io/hostname"}
RULE = "DuringSchedulingIgnoredDuringExecution"
every_engine = pytest.mark.parametrize("engine", ENGINES)

Worker = Callable[..., Object]


def pod(worker: Worker, engine: str, **values: Object) -> Object:
    found: Object = worker(engine, values)["spec"]["template"]["spec"]
    return found


@every_engine
@pytest.mark.parametrize(
    ("placement", "affinity"),
    [
        ({}, None),
        ({"mode": "Required"}, None),
        (NEAR, {"nodeAffinity": {f"preferred{RULE}": [{"weight": 100, "preference": NODE}]}}),
        ({**NEAR, "mode": "Required"}, {"nodeAffinity": {f"required{RULE}": {"nodeSelectorTerms": [NODE]}}}),
        (BESIDE, {"podAffinity": {f"preferred{RULE}": [{"weight": 100, "podAffinityTerm": PODS}]}}),
        ({**BESIDE, "mode": "Required"}, {"podAffinity": {f"required{RULE}": [PODS]}}),
    ],
)
def test_near(worker: Worker, engine: str, placement: Object, affinity: Object | None) -> None:
    assert pod(worker, engine, placement=placement).get("affinity") == affinity


@every_engine
@pytest.mark.parametrize(
    ("placement", "key", "rule"),
    [
        ({"spread": "Nodes"}, "kubernetes.io/hostname", "ScheduleAnyway"),
        ({"spread": "Zones"}, "topology.kubernetes.io/zone", "ScheduleAnyway"),
        ({"spread": "Nodes", "mode": "Required"}, "kubernetes.io/hostname", "DoNotSchedule"),
        ({**NEAR, "spread": "Nodes", "mode": "Required"}, "kubernetes.io/hostname", "DoNotSchedule"),
        # The other nodes would count as empty, and no worker may go there.
        ({**BESIDE, "spread": "Nodes", "mode": "Required"}, "kubernetes.io/hostname", "ScheduleAnyway"),
    ],
)
def test_spread(worker: Worker, engine: str, placement: Object, key: str, rule: str) -> None:
    deployment = worker(engine, {"placement": placement})
    (constraint,) = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    # Workers alone count, and of a rolling update those of the new kind; a node that they may not use does not.
    assert constraint == {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": rule,
        "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": deployment["spec"]["selector"]["matchLabels"]},
        "matchLabelKeys": ["pod-template-hash"],
    }


@every_engine
def test_the_users_own_fields_stand_beside_it(worker: Worker, engine: str) -> None:
    own = {"nodeSelector": {"a": "b"}, "priorityClassName": "high", "tolerations": [{"key": "x", "operator": "Exists"}]}
    found = pod(worker, engine, **own, placement={**NEAR, "spread": "Nodes"})
    assert {key: found[key] for key in own} == own
    mine = [{"topologyKey": "mine"}]
    assert pod(worker, engine, topologySpreadConstraints=mine, placement=NEAR)["topologySpreadConstraints"] == mine


@every_engine
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"affinity": {"nodeAffinity": {"x": 1}}, "placement": NEAR},
            "placement: nodeLabels and podLabels .* affinity",
        ),
        (
            {"topologySpreadConstraints": [{"x": 1}], "placement": {"spread": "Nodes"}},
            "placement: spread .* topologySpreadConstraints",
        ),
    ],
)
def test_not_both(render: Render, engine: str, values: Object, message: str) -> None:
    with pytest.raises(HelmRenderError, match=message):
        render(engine, values)


@every_engine
@pytest.mark.parametrize(
    ("placement", "message"),
    [
        ({"spread": "Racks"}, r"'/placement/spread': value must be one of"),
        ({"mode": "Hard"}, r"'/placement/mode': value must be one of"),
        ({"nodes": {}}, r"'/placement': additional properties 'nodes' not allowed"),
        ({"nodeLabels": {"a": 1}}, r"'/placement/nodeLabels/a': got number, want string"),
    ],
)
def test_refused(render: Render, engine: str, placement: Object, message: str) -> None:
    with pytest.raises(HelmValuesError, match=message):
        render(engine, {"placement": placement})


@every_engine
def test_workers_know_their_node(render: Render, engine: str) -> None:
    found = environment(render(engine)["Deployment", f"{NAME}-worker"])
    assert found["NODE_NAME"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
