"""The three results of the samples: by `make demo`, by hand, and nothing left after them."""

import re
from pathlib import Path

import pytest
from reader import Reader

from on_cluster import TOP, namespace, until
from pages import commands, missing, snippets

SAMPLES = {
    "dask-mean.yaml": ("mean", r"^0\.(499|500)\d*$"),
    "celery-add.yaml": ("add", r"^8$"),
    "spark-average-age.yaml": ("average-age", r"^2\.0$"),
}
# The jobs, and what the how-tos do with them.
BORROWING = {
    "clusters/dask.yaml": ("numbers-mean", snippets("docs/dask.md", "A cluster and a job", "console")),
    "clusters/celery.yaml": ("sums-add", snippets("docs/celery.md", "A cluster and a job", "console")),
    "clusters/spark.yaml": ("tables-average-age", snippets("docs/spark.md", "A cluster and a job", "console")),
}
CONTROL = {"clusters/dask.yaml": "scheduler", "clusters/celery.yaml": "broker", "clusters/spark.yaml": "master"}
LISTED = (
    "workerclusters,workerjobs,deployments,statefulsets,jobs,pods,services,configmaps,secrets,"
    "networkpolicies,poddisruptionbudgets,persistentvolumeclaims"
)


def own(kubectl):
    """Return what is in the namespace beside what Kubernetes puts into every one."""
    names = kubectl("get", LISTED, "--output=name", "--ignore-not-found").split()
    return [name for name in names if name != "configmap/kube-root-ca.crt"]


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    """Run the three at once, by the commands as they stand in the README; lend their namespace and what was printed."""
    (script,) = snippets("README.md", "Two commands", "sh")
    with namespace("by-hand", restricted=True) as kubectl:
        yield kubectl, Reader(tmp_path_factory.mktemp("by-hand"), kubectl).does(script).splitlines()


def test_the_readme_runs_the_samples_by_hand(by_hand):
    _, printed = by_hand
    results = dict(SAMPLES.values())
    for name, line in zip(("add", "mean", "average-age"), printed[-3:], strict=True):
        assert re.match(results[name], line), printed


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_by_hand(by_hand, sample):
    kubectl, _ = by_hand
    name, result = SAMPLES[sample]

    def left():
        return [one for one in own(kubectl) if name in one]

    status = kubectl.get(f"wj/{name}")["status"]
    assert re.match(result, status["output"].splitlines()[-1])
    assert status["attempts"] == 1
    assert {"startTime", "completionTime"} <= status.keys()
    # The template's cluster goes when the job is done; the job stays.
    until(lambda: not [one for one in left() if re.match("workercluster|deployment|statefulset", one)])
    assert f"workerjob.trireme.dev/{name}" in left()
    kubectl("delete", "--filename", TOP / "manifests" / "samples" / sample)
    until(lambda: not left(), seconds=120)


@pytest.mark.parametrize("sample", BORROWING)
def test_a_job_that_borrows_a_cluster(kubectl, sample, tmp_path):
    name, (console,) = BORROWING[sample]
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    Reader(tmp_path, kubectl).follows(console)
    parts = {pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod for pod in kubectl.get("pods")["items"]}
    assert parts.keys() >= {"driver", CONTROL[sample]}
    for container in (container for pod in parts.values() for container in pod["spec"]["containers"]):
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
    # The cluster stays, and outlives the job.
    kubectl("delete", f"wj/{name}")

    def stays():
        cluster = kubectl.get("wc")["items"][0]
        conditions = {one["type"]: one["status"] for one in cluster["status"]["conditions"]}
        return (conditions["Ready"], conditions["AutoscalingActive"]) == ("True", "True") and cluster

    assert "desiredReplicas" in until(stays)["status"]["autoscaling"]
    until(lambda: not kubectl("get", "jobs", "--output=name").strip())
    kubectl("delete", "--filename", TOP / "manifests" / "samples" / sample, "--ignore-not-found")
    until(lambda: not own(kubectl), seconds=180)


def test_every_sample_is_tested():
    root = TOP / "manifests" / "samples"
    found = {str(path.relative_to(root)) for path in root.rglob("*.yaml")}
    here = {name for name in found if "/" not in name or name.startswith("clusters/")}
    assert here == {*SAMPLES, *BORROWING}
    # The others are, by their names, in a file of what they show.
    tests = "\n".join(
        path.read_text() for path in Path(__file__).parent.glob("test_*.py") if path.name != Path(__file__).name
    )
    assert [name for name in found - here if not re.search(rf"\b{Path(name).stem}(\.yaml)?[\"']", tests)] == []


def test_make_demo_prints_the_three_results(make):
    ((command, documented),) = commands(*snippets("README.md", "Two commands", "console"))
    printed = make(command.removeprefix("make ")).stdout
    # In the order in which the samples end; where tools were not on the PATH, it is said where they are.
    lines = re.sub(r" +\(tools: .*\)$", "", printed, flags=re.MULTILINE).splitlines()
    assert [line for line in documented if missing([line], lines)] == [], printed
    found = dict(re.findall(r"^  (\S+) +[\d.]+ s  (.+)$", printed, re.MULTILINE))
    for name, result in SAMPLES.values():
        assert re.match(result, found[name]), printed
