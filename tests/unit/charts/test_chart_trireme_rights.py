"""What the operator may do, and what its pods are."""

import pytest
import yaml
from charting import CHARTS, container
from helm_python import Chart

from trireme_operator.api import (
    CHART_KINDS,
    CONFIG_MAP,
    EVENT,
    GROUP,
    JOB,
    SECRET,
    WATCHED,
    WORKER_CLUSTER,
    WORKER_GROUP,
    WORKER_JOB,
)

ALL = {"namespace": ""}
ONE = {"namespace": "team"}


def rendered(values):
    files = Chart.load(CHARTS / "trireme").render(values, name="trireme", namespace="trireme-system")
    found = [item for path, text in files.items() if path.endswith(".yaml") for item in yaml.safe_load_all(text)]
    return {(item["kind"], item["metadata"]["name"], item["metadata"].get("namespace")): item for item in found if item}


@pytest.mark.parametrize("values", [ALL, ONE])
def test_rights_are_named_one_by_one(values):
    objects = rendered(values)
    rules = [rule for (kind, *_), item in objects.items() if kind in ("Role", "ClusterRole") for rule in item["rules"]]
    assert len(rules) > 10
    assert [rule for rule in rules for words in rule.values() if any("*" in word for word in words)] == []
    may = {(group, what, verb) for rule in rules for group in rule["apiGroups"] for what in rule["resources"]
           for verb in rule["verbs"]}  # fmt: skip
    assert {verb for _, what, verb in may if what == "secrets"} == {"create"}
    # What a pod runs, it says by way of controllers alone.
    assert {(what, verb) for _, what, verb in may if what.startswith("pods")} == {
        *(("pods", verb) for verb in ("list", "watch")),
        ("pods/log", "get"),
        ("pods/status", "patch"),
    }
    assert not {what for _, what, _ in may} & {"pods/exec", "serviceaccounts", "roles", "clusterroles", "nodes"}


def test_rights_are_those_that_are_used():
    """Each verb by what the operator does with a kind; what it has nothing to do with is not here."""
    role = rendered(ONE)["Role", "trireme-operator", "team"]
    may = [
        (group, what, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for what in rule["resources"]
        for verb in rule["verbs"]
    ]
    assert len(set(may)) == len(may)
    applied = {kind: {"create", "patch"} for kind in (*CHART_KINDS, WORKER_CLUSTER)}
    started = {kind: {"create", "get"} for kind in (CONFIG_MAP, JOB, WORKER_JOB)}
    patched = {kind: {"patch"} for kind in (JOB, WORKER_GROUP)}
    deleted = {kind: {"delete"} for kind in (*CHART_KINDS, JOB, WORKER_CLUSTER, WORKER_JOB)}
    watched = {kind: {"list", "watch"} for kind in WATCHED}
    others = {SECRET: {"create"}, EVENT: {"create", "list"}}
    used = {
        (kind.group, kind.plural, verb)
        for reason in (applied, started, patched, deleted, watched, others)
        for kind, verbs in reason.items()
        for verb in verbs
    }
    assert {right for right in may if "/" not in right[1]} == used
    own = [kind for kind in WATCHED if kind.group == GROUP]
    assert {right for right in may if "/" in right[1]} == {
        *((GROUP, f"{kind.plural}/status", "patch") for kind in own),
        *((GROUP, f"{kind.plural}/finalizers", "update") for kind in own),
        *((GROUP, f"{kind.plural}/scale", "patch") for kind in (WORKER_CLUSTER, WORKER_GROUP)),
        ("", "pods/status", "patch"),
        ("", "pods/log", "get"),
    }


def test_in_one_namespace_it_has_rights_nowhere_else():
    objects = rendered(ONE)
    assert not {kind for kind, *_ in objects} & {"ClusterRole", "ClusterRoleBinding"}
    lease = "trireme-operator-lease"
    assert {(name, namespace) for kind, name, namespace in objects if kind in ("Role", "RoleBinding")} == {
        ("trireme-operator", "team"),
        (lease, "trireme-system"),
    }
    role = objects["Role", lease, "trireme-system"]
    assert {what for rule in role["rules"] for what in rule["resources"]} == {"leases"}


def test_its_pods_are_restricted():
    pod = rendered(ALL)["Deployment", "trireme-operator", "trireme-system"]
    spec = pod["spec"]["template"]["spec"]
    assert (spec["securityContext"]["runAsNonRoot"], spec["enableServiceLinks"]) == (True, False)
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(pod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
