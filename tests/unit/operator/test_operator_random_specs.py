"""Whatever the schema lets in ends in objects or in a refusal that says why, never in a crash."""

from typing import Any

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from operating import NAMESPACE, NOW, STAMP, charts, schema_of

from trireme_operator import crds
from trireme_operator.api import API_VERSION, Object, key_of
from trireme_operator.charts import ChartProblem
from trireme_operator.plan import cluster as cluster_plan
from trireme_operator.plan import job as job_plan

CLUSTER = schema_of(crds.worker_cluster())["properties"]["spec"]
JOB = schema_of(crds.worker_job())["properties"]["spec"]

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, width=32)
    | st.text(max_size=9),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=9), below, max_size=3),
    max_leaves=6,
)


def matching(schema: Object) -> st.SearchStrategy[Any]:
    """Return a strategy for what a structural schema lets in."""
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(0, 10**13) | st.from_regex(schema["pattern"], fullmatch=True).filter(
            lambda text: len(text) <= schema["maxLength"]
        )
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return st.dictionaries(st.text(max_size=12), JSON, max_size=3)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "object" if "properties" in schema:
            required = set(schema.get("required", []))
            fields = {name: matching(below) for name, below in schema["properties"].items()}
            return st.fixed_dictionaries(
                {name: field for name, field in fields.items() if name in required},
                optional={name: field for name, field in fields.items() if name not in required},
            )
        case "object":
            values = matching(schema["additionalProperties"])
            names = st.sampled_from(["cpu", "memory", "nvidia.com/gpu"]) | st.text(max_size=8)
            return st.dictionaries(names, values, max_size=min(3, schema["maxProperties"]))
        case "array":
            return st.lists(matching(schema["items"]), min_size=schema.get("minItems", 0), max_size=3)
        case "string":
            most = min(40, schema.get("maxLength", 40))
            if "pattern" in schema:
                return st.from_regex(schema["pattern"], fullmatch=True).filter(lambda text: len(text) <= most)
            return st.text(
                st.characters(codec="utf-8", exclude_characters="\0"),
                min_size=schema.get("minLength", 0),
                max_size=most,
            )
        case "integer":
            return st.integers(schema.get("minimum", 0), schema.get("maximum", 2**31 - 1))
        case "number":
            return st.floats(schema["minimum"], schema["maximum"])
        case "boolean":
            return st.booleans()
    raise AssertionError(schema)


def well_formed_cluster(spec: Object) -> Object:
    """Drop the blocks of other engines, which a rule refuses."""
    return {
        key: value for key, value in spec.items() if key not in ("dask", "spark", "celery") or key == spec["engine"]
    }


def render(cluster: Object) -> list[Object]:
    metadata = cluster["metadata"]
    found = charts.render(cluster["spec"]["engine"], metadata["name"], NAMESPACE, cluster_plan.values(cluster))
    return cluster_plan.owned(cluster, found)


def made(kind: str, name: str, spec: Object) -> Object:
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": "uid",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


many = settings(
    max_examples=700,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@many
@given(matching(CLUSTER).map(well_formed_cluster))
def test_a_random_cluster(spec: Object) -> None:
    cluster = made("WorkerCluster", "numbers", spec)
    try:
        wanted = render(cluster)
    except ChartProblem:
        status = cluster_plan.status(cluster, cluster_plan.Observed({}), NOW, None)
    else:
        observed = cluster_plan.Observed.of(cluster, wanted)
        plan = cluster_plan.plan(cluster, wanted, observed, "password", NOW)
        assert plan.apply == wanted
        assert plan.delete == []
        assert len({key_of(item) for item in wanted}) == len(wanted)
        status = cluster_plan.status(cluster, observed, NOW, None)
    jsonschema.validate(status, schema_of(crds.worker_cluster())["properties"]["status"])


@settings(many, max_examples=300)
@given(matching(JOB), st.sampled_from(["dask", "spark", "celery"]))
def test_a_random_job(spec: Object, engine: str) -> None:
    if "clusterTemplate" in spec:
        spec.pop("clusterRef", None)
        spec["clusterTemplate"]["spec"] = well_formed_cluster(spec["clusterTemplate"]["spec"])
    else:
        spec.setdefault("clusterRef", {"name": "numbers"})
    # Other names could not be a cluster's.
    if "clusterRef" in spec:
        spec["clusterRef"] = {"name": "numbers"}
    if "script" in spec["driver"]:
        spec["driver"].pop("command", None)
        spec["driver"].pop("code", None)
    job = made("WorkerJob", "mean", spec)
    cluster = made("WorkerCluster", job_plan.cluster_name(job), {"engine": engine, "replicas": 1})
    if "clusterTemplate" in spec:
        cluster["metadata"]["ownerReferences"] = [{"uid": "uid"}]
    cluster["status"] = {
        "observedGeneration": 1,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": ""}],
    }
    (workers,) = [item for item in render(cluster) if key_of(item) == cluster_plan.worker_key(cluster)]
    observed = job_plan.Observed(cluster=cluster, workers=workers)
    # Made just now, lest it waits for too long already.
    job["metadata"]["creationTimestamp"] = STAMP
    plan = job_plan.plan(job, observed, NOW)
    assert len(plan.start) == (0 if spec.get("suspend") else 1)
    jsonschema.validate(job_plan.status(job, observed, NOW), schema_of(crds.worker_job())["properties"]["status"])
