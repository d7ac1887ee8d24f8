"""What the operator may do, and what its pods are."""

import pytest
import yaml
from charting import CHARTS, container
from helm_python import Chart

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
        *(("pods", verb) for verb in ("get", "list", "watch")),
        ("pods/log", "get"),
        ("pods/status", "patch"),
    }
    assert not {what for _, what, _ in may} & {"pods/exec", "serviceaccounts", "roles", "clusterroles", "nodes"}


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
