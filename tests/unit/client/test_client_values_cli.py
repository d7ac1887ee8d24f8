"""`trireme values` as a command: output and exit codes."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from trireme.cli.main import run

PROD = """\
# prod
replicas: 3  # why
podLabels:
  version: 1.10
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trireme(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in a folder with prod.yaml; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    Path("prod.yaml").write_text(PROD)

    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = run(["values", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_show_tells_where_each_value_comes_from(trireme: Run) -> None:
    code, out, _ = trireme("show", "dask", "-f", "prod.yaml", "--set", "scheduler.resources.limits.cpu=2")
    rows = dict(tuple(line.split(None, 2)[::2]) for line in out.splitlines()[1:])  # type: ignore[misc]
    assert code == 0
    assert rows["replicas"] == "prod.yaml:2:11"
    assert rows["scheduler.resources.limits.cpu"].startswith("--set ")
    assert rows["scheduler.resources.limits.memory"].startswith("dask/values.yaml:")
    _, out, _ = trireme("show", "dask", "podLabels", "-f", "prod.yaml", "-o", "json")
    assert json.loads(out) == [{"path": "podLabels.version", "value": 1.1, "from": "prod.yaml:4:12"}]
    _, out, _ = trireme("show", "dask", "scheduler.resources", "-o", "yaml")
    assert yaml.safe_load(out) == {"limits": {"cpu": "1", "memory": "1Gi"}}
    code, _, err = trireme("show", "dask", "replica")
    assert (code, err) == (1, "error: replica: there is no such value: did you mean replicas?\n")


def test_merge(trireme: Run) -> None:
    code, out, _ = trireme("merge", "prod.yaml", "-", "--set", "a.b=no", stdin="podLabels: {x: 'y'}\n")
    assert code == 0
    assert out == "replicas: 3\npodLabels:\n  version: 1.1\n  x: 'y'\na:\n  b: 'no'\n"
    _, out, _ = trireme("merge", "prod.yaml", "--chart", "dask", "-o", "json")
    assert json.loads(out)["drainSeconds"] == 120


def test_check_says_file_line_and_column(trireme: Run) -> None:
    code, out, _ = trireme("check", "dask", "-f", "prod.yaml")
    assert code == 1
    assert out == (
        "prod.yaml:4:12: error: podLabels.version: 1.10 is read as the number 1.1, and must be text: quote it: '1.10'\n"
    )
    Path("prod.yaml").write_text("replicas: 0b11\n")
    assert trireme("check", "dask", "-f", "prod.yaml")[0] == 0
    assert trireme("check", "dask", "-f", "prod.yaml", "--strict")[0] == 1
    code, out, _ = trireme("check", "dask", "-f", "prod.yaml", "--set", "replica=1", "-o", "json")
    assert code == 1
    assert [(row["file"], row["line"], row["level"]) for row in json.loads(out)] == [
        ("prod.yaml", 1, "warning"),
        ("--set replica=1", 0, "error"),
    ]


def test_check_tells_of_all_files_at_once(trireme: Run) -> None:
    Path("bad.yaml").write_text("a:\n\tb: 1\n")
    Path("twice.yaml").write_text("a: 1\na: 2\n")
    code, out, _ = trireme("check", "dask", "-f", "bad.yaml", "-f", "twice.yaml", "-f", "prod.yaml")
    assert code == 1
    assert [line.split(" ")[0] for line in out.splitlines()] == ["bad.yaml:2:1:", "twice.yaml:2:1:", "prod.yaml:4:12:"]
    assert trireme("check", "dask", "--set", "a")[1] == "--set a: error: 'a' has no value: write NAME=VALUE\n"


def test_get(trireme: Run) -> None:
    assert trireme("get", "prod.yaml", "podLabels.version")[1] == "1.1\n"
    assert trireme("get", "prod.yaml", "podLabels", "-o", "json")[1] == '{\n  "version": 1.1\n}\n'
    code, _, err = trireme("get", "prod.yaml", "podlabels.version")
    assert (code, err) == (1, "error: prod.yaml: there is no podlabels.version: did you mean podLabels.version?\n")
    assert trireme("get", "none.yaml")[2] == "error: none.yaml: No such file or directory\n"


def test_set_keeps_the_rest(trireme: Run) -> None:
    code, out, _ = trireme("set", "prod.yaml", "replicas=5", "--dry-run")
    assert code == 0
    assert "-replicas: 3  # why\n+replicas: 5  # why\n" in out
    assert Path("prod.yaml").read_text() == PROD
    assert trireme("set", "prod.yaml", "replicas=5", "podLabels.version=2", "--string")[0] == 0
    assert Path("prod.yaml").read_text() == PROD.replace("3  #", "'5'  #").replace("1.10", "'2'")
    assert trireme("set", "-", "a=1", stdin="# c\n")[1] == "# c\na: 1\n"


def test_set_refuses_what_the_chart_refuses(trireme: Run) -> None:
    Path("prod.yaml").write_text("# c\n")
    code, _, err = trireme("set", "prod.yaml", "replica=5", "--chart", "dask")
    assert code == 1
    assert err == "error: prod.yaml:2:1: replica: there is no such value: did you mean replicas?\n"
    assert Path("prod.yaml").read_text() == "# c\n"


CLUSTER = """\
apiVersion: trireme.dev/v1alpha1
kind: WorkerCluster
metadata: {name: numbers}
spec:
  engine: dask
  suspend: true
  replicas: 4
  autoscaling: {maxReplicas: 8}
  dask: {scheduler: {resources: {limits: {cpu: 500m, memory: 1Gi}}}}
  values: {podLabels: {team: 'no'}}
"""


def test_a_cluster_there_and_back(trireme: Run) -> None:
    code, out, _ = trireme("from-cluster", "-f", "-", stdin=CLUSTER)
    assert code == 0
    assert yaml.safe_load(out) == {
        "replicas": 0,
        "scheduler": {"resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}},
        "podLabels": {"team": "no"},
    }
    code, back, _ = trireme("to-cluster", "-", stdin=out)
    assert code == 0
    assert yaml.safe_load(back) == yaml.safe_load(CLUSTER)


def test_which_cluster_of_a_manifest(trireme: Run) -> None:
    two = f"{CLUSTER}---\n{CLUSTER.replace('numbers', 'others')}"
    assert (
        trireme("from-cluster", "-f", "-", stdin=two)[2]
        == "error: -: there are 2 WorkerClusters: give the NAME of one\n"
    )
    assert "# WorkerCluster others: " in trireme("from-cluster", "others", "-f", "-", stdin=two)[1]
    assert trireme("from-cluster", "-f", "-", stdin="")[2] == "error: -: there is no WorkerCluster\n"
    assert trireme("from-cluster")[0] == 2


def test_a_cluster_is_read_from_the_cluster(trireme: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Kube:
        def __init__(self, *where: str | None) -> None:
            asked.append(where)

        def get(self, plural: str, name: str) -> object:
            asked.append((plural, name))
            return yaml.safe_load(CLUSTER)

    monkeypatch.setattr("trireme.client.kube.Kube", Kube)
    assert "# WorkerCluster numbers: " in trireme("from-cluster", "numbers", "-n", "team", "--context", "kind")[1]
    assert asked == [(None, "kind", "team"), ("workerclusters", "numbers")]


def test_to_cluster_asks_for_what_it_can_not_know(trireme: Run) -> None:
    Path("prod.yaml").write_text("replicas: 3\n")
    assert trireme("to-cluster", "prod.yaml")[2] == "error: prod.yaml does not say which engine: give --engine\n"
    assert (
        trireme("to-cluster", "prod.yaml", "--engine=dask")[2]
        == "error: prod.yaml does not say which name: give --name\n"
    )
    code, out, _ = trireme("to-cluster", "prod.yaml", "--engine=dask", "--name=a", "-n", "b", "-o", "json")
    assert (code, json.loads(out)["metadata"]) == (0, {"name": "a", "namespace": "b"})
    assert trireme("to-cluster", "prod.yaml", "--engine=trireme")[0] == 2
    Path("prod.yaml").write_text("replica: 3\n")
    assert "did you mean replicas?" in trireme("to-cluster", "prod.yaml", "--engine=dask", "--name=a")[2]


@pytest.mark.skipif(not shutil.which("helm"), reason="no helm command")
def test_diff_exits_as_kubectl_diff(trireme: Run) -> None:
    Path("prod.yaml").write_text("replicas: 3\n")
    code, out, _ = trireme("diff", "celery", "-f", "prod.yaml")
    assert code == 1
    assert "diff old/apps.v1.Deployment.release-worker new/apps.v1.Deployment.release-worker\n" in out
    assert "-  replicas: 2\n+  replicas: 3\n" in out
    # The broker's password is made anew at each rendering.
    assert trireme("diff", "celery", "-f", "prod.yaml", "--old", "prod.yaml") == (0, "", "")
    code, _, err = trireme("diff", "celery", "--set", "replica=3")
    assert (code, err.count("\n")) == (2, 1)
    assert trireme("diff", "celery", "--release", "a", "--old", "prod.yaml")[0] == 2
    assert trireme("diff", "desk")[0] == 2
