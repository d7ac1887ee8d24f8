"""Clusters and jobs for tests, and what the API server holds of them."""

from on_cluster import condition

KINDS = "configmaps,services,networkpolicies,poddisruptionbudgets,deployments,statefulsets,jobs,secrets"
NOWHERE = {"nodeSelector": {"trireme.dev/no-node-has-this": "true"}}
"""Chart values that keep workers from starting, where only objects matter."""


def cluster(name="numbers", engine="dask", **spec):
    """Return a WorkerCluster whose pods start nowhere, unless it says otherwise."""
    control = {"dask": "scheduler", "spark": "master", "celery": "broker"}.get(engine, "scheduler")
    spec.setdefault("values", {**NOWHERE, control: NOWHERE})
    return {
        "apiVersion": "trireme.dev/v1alpha1",
        "kind": "WorkerCluster",
        "metadata": {"name": name},
        "spec": {"engine": engine, **spec},
    }


def group(name="big", **spec):
    """Return a WorkerGroup of the cluster `numbers`."""
    return {
        "apiVersion": "trireme.dev/v1alpha1",
        "kind": "WorkerGroup",
        "metadata": {"name": name},
        "spec": {"clusterRef": {"name": "numbers"}, **spec},
    }


def job(name="mean", driver=None, **spec):
    """Return a WorkerJob; it borrows the cluster `numbers` unless it brings one."""
    if "clusterTemplate" not in spec:
        spec.setdefault("clusterRef", {"name": "numbers"})
    return {
        "apiVersion": "trireme.dev/v1alpha1",
        "kind": "WorkerJob",
        "metadata": {"name": name},
        "spec": {"driver": driver or {"script": "print(1)"}, **spec},
    }


def cron_job(name="nightly", **spec):
    """Return a WorkerCronJob whose jobs borrow the cluster `numbers`."""
    template = {"spec": job()["spec"]}
    return {
        "apiVersion": "trireme.dev/v1alpha1",
        "kind": "WorkerCronJob",
        "metadata": {"name": name},
        "spec": {"schedule": "@daily", "jobTemplate": template, **spec},
    }


def reason(kubectl, name, type_="Ready"):
    """Return the reason of a condition of an object."""
    return condition(kubectl.get(name), type_).get("reason")


def children(kubectl):
    """Return all objects of the namespace that carry the project's label."""
    return kubectl.get(KINDS, "--selector=app.kubernetes.io/part-of=trireme")["items"]


def essence(item):
    """Return what of an object does not depend on when it was made."""
    metadata = item["metadata"]
    annotations = {
        key: value
        for key, value in metadata.get("annotations", {}).items()
        # The digest of what was applied counts its owner's uid.
        if not key.startswith(("deployment.kubernetes.io/", "trireme.dev/applied"))
    }
    body = {key: value for key, value in item.items() if key not in ("metadata", "status", "data")}
    if item["kind"] == "Secret":
        body["data"] = sorted(item["data"])
    elif "data" in item:
        body["data"] = item["data"]
    if item["kind"] == "Service":
        body["spec"] = {key: value for key, value in body["spec"].items() if not key.startswith("clusterIP")}
    if item["kind"] == "Job":
        # The job controller labels its pods with the Job's uid.
        body["spec"] = {key: value for key, value in body["spec"].items() if key not in ("selector", "template")}
    owners = [(owner["kind"], owner["name"]) for owner in metadata.get("ownerReferences", [])]
    return {"labels": metadata.get("labels", {}), "annotations": annotations, "owners": owners, **body}


def state(kubectl):
    """Return all of the project's objects by kind and name, as far as they do not depend on when they were made."""
    return {f"{item['kind']}/{item['metadata']['name']}": essence(item) for item in children(kubectl)}
