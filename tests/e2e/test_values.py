"""Values of WorkerClusters by plain Helm, and what an upgrade of a live release would change."""

import sys
from pathlib import Path

import yaml

from on_cluster import CONTEXT, TOP, run

TRIREME = Path(sys.executable).with_name("trireme")
SMALL = {"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"cpu": "20m"}}
CLUSTER = {
    "apiVersion": "trireme.dev/v1alpha1",
    "kind": "WorkerCluster",
    "metadata": {"name": "shop"},
    "spec": {
        "engine": "celery",
        "replicas": 0,
        "autoscaling": {"maxReplicas": 3},
        "env": [{"name": "GREETING", "value": "no"}],
        "celery": {"app": "tasks", "broker": {"resources": SMALL}},
        "values": {"podLabels": {"team": "014"}},
    },
}


def test_helm_installs_a_cluster_and_diff_shows_what_an_upgrade_would_change(kubectl, tmp_path):
    file = tmp_path / "values.yaml"
    made = run(TRIREME, "values", "from-cluster", "--filename=-", stdin=yaml.dump(CLUSTER)).stdout
    file.write_text(made)
    assert yaml.safe_load(run(TRIREME, "values", "to-cluster", file).stdout) == CLUSTER
    run(
        "helm",
        f"--kube-context={CONTEXT}",
        f"--namespace={kubectl.namespace}",
        *("install", "shop", TOP / "charts" / "celery", f"--values={file}", "--wait", "--timeout=180s"),
    )
    (broker,) = kubectl.get("pods")["items"]
    assert broker["metadata"]["labels"]["team"] == "014"

    live = ("--release=shop", f"--namespace={kubectl.namespace}", f"--context={CONTEXT}", f"--values={file}")
    # The password that is there is kept, so that nothing changes.
    same = run(TRIREME, "values", "diff", "celery", *live, check=False)
    assert (same.returncode, same.stdout) == (0, "")
    run(TRIREME, "values", "set", file, "drainSeconds=60", "--chart=celery")
    other = run(TRIREME, "values", "diff", "celery", *live, check=False)
    assert other.returncode == 1
    assert "-      terminationGracePeriodSeconds: 120\n+      terminationGracePeriodSeconds: 60\n" in other.stdout
    assert "diff old/apps.v1.Deployment.shop-worker new/apps.v1.Deployment.shop-worker\n" in other.stdout
    gone = run(TRIREME, "values", "diff", "celery", "--release=none", *live[1:], check=False)
    assert (gone.returncode, gone.stderr.count("\n")) == (2, 1)
