"""What an upgrade would change, object by object."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from trireme.errors import TriremeError
from trireme.values import rendering
from trireme.values.rendering import Release, differences, objects, settled, summary

OLD = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, namespace: team}
spec: {replicas: 1, text: "one\\ntwo\\n"}
---
# nothing
---
apiVersion: v1
kind: Service
metadata: {name: a}
"""
NEW = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: b}
data: {k: v}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, namespace: team}
spec: {replicas: 2, text: "one\\nthree\\n"}
"""


def test_objects_are_compared_one_by_one_under_their_names() -> None:
    new, deployment, old = differences(objects(OLD), objects(NEW))
    assert new.startswith(
        "diff old/v1.ConfigMap.b new/v1.ConfigMap.b\n--- old/v1.ConfigMap.b\n+++ new/v1.ConfigMap.b\n@@"
    )
    assert "+  k: v\n" in new
    assert "-  replicas: 1\n+  replicas: 2\n" in deployment
    assert "     one\n-    two\n+    three\n" in deployment
    assert "-kind: Service\n" in old
    assert [(row["kind"], row["change"]) for row in summary(objects(OLD), objects(NEW))] == [
        ("Deployment", "update"),
        ("ConfigMap", "create"),
        ("Service", "delete"),
    ]
    assert list(differences(objects(OLD), objects(OLD))) == []


def secret(**data: str) -> rendering.Objects:
    return {("v1", "Secret", "", "s"): {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": data}}


def test_what_secrets_hold_is_not_shown() -> None:
    (text,) = differences(secret(a="c2VjcmV0", b="c2FtZQ=="), secret(a="b3RoZXI=", b="c2FtZQ==", c="bmV3"))
    assert "-  a: '*** (before)'\n+  a: '*** (after)'\n" in text
    assert not any(word in text for word in ("c2VjcmV0", "b3RoZXI=", "c2FtZQ==", "bmV3"))
    (made,) = differences({}, secret(a="c2VjcmV0"))
    assert "c2VjcmV0" not in made


def test_what_is_made_anew_at_each_rendering_is_no_change() -> None:
    old = settled(secret(a="x1", b="y"), secret(a="x2", b="y"))
    assert old == secret(a="(generated)", b="y")
    assert list(differences(old, settled(secret(a="x3", b="y"), secret(a="x4", b="y")))) == []


def answers(monkeypatch: pytest.MonkeyPatch, code: int = 0, out: str = "", err: str = "") -> list[list[str]]:
    calls: list[list[str]] = []

    def run(command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        calls.append([*command[1:], more["input"]])
        return subprocess.CompletedProcess(command, code, out, err)

    monkeypatch.setattr(rendering.shutil, "which", lambda _: "/bin/helm")
    monkeypatch.setattr(rendering.subprocess, "run", run)
    return calls


def test_helm_is_called_with_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answers(monkeypatch, out=OLD)
    release = Release("r", Path("chart"), "team", "kind", "config")
    assert len(rendering.rendered(release, {"a": 1})) == 2
    assert len(rendering.live(release)) == 2
    assert calls == [
        [
            "template",
            "r",
            "chart",
            "--values=-",
            "--namespace=team",
            "--kube-context=kind",
            "--kubeconfig=config",
            '{"a": 1}',
        ],
        ["get", "manifest", "r", "--namespace=team", "--kube-context=kind", "--kubeconfig=config", ""],
    ]


def test_an_upgrade_is_only_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answers(monkeypatch, out='{"manifest": "kind: A\\nmetadata: {name: a}\\n"}')
    assert len(rendering.upgraded(Release("r", Path("chart")), {})) == 1
    assert calls == [["upgrade", "r", "chart", "--values=-", "--dry-run=server", "--output=json", "{}"]]


def test_helms_refusal_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, code=1, err="Error: values don't meet\n- at '/x'\n")
    with pytest.raises(TriremeError) as caught:
        rendering.live(Release("r", Path("chart")))
    assert (str(caught.value), caught.value.code) == ("values don't meet - at '/x'", 2)


def test_without_helm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering.shutil, "which", lambda _: None)
    with pytest.raises(TriremeError, match="helm command is not on PATH"):
        rendering.live(Release("r", Path("chart")))
