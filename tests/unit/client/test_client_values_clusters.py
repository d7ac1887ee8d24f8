"""WorkerClusters as values files and back, beside what the operator makes of them."""

from typing import Any

import pytest
from helm_python import Chart, HelmError, disable_logging
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trireme.errors import TriremeError
from trireme.values import charts, clusters
from trireme.values.reading import plain, read
from trireme_operator import crds
from trireme_operator.plan import cluster as operators

SPEC = crds.worker_cluster()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
TEXT = st.text("abno01.e-'\"#: {é\n", max_size=6)
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | TEXT,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXT, below, max_size=3),
    max_leaves=5,
)
CHART_WORDS = [
    "volumes",
    "volumeMounts",
    "placement",
    "image",
    "scheduler",
    "master",
    "broker",
    "config",
    "resources",
    "nodeSelector",
    "code",
    "env",
    "drainSeconds",
]


def matching(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What a structural schema lets in, as far as it matters here."""
    if schema.get("x-kubernetes-int-or-string"):
        return st.sampled_from(["1", "500m", "2Gi", 3])
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return st.dictionaries(TEXT, ANY, max_size=3)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "properties" in schema:
        fields = {name: matching(below) for name, below in schema["properties"].items()}
        required = schema.get("required", [])
        return st.fixed_dictionaries(
            {name: fields[name] for name in required},
            optional={name: fields[name] for name in fields if name not in required},
        )
    match schema["type"]:
        case "object":
            return st.dictionaries(
                st.sampled_from(["cpu", "memory", "a.b"]), matching(schema["additionalProperties"]), max_size=2
            )
        case "array":
            return st.lists(matching(schema["items"]), max_size=2)
        case "integer":
            return st.integers(schema.get("minimum", 0), schema.get("maximum", 1000))
        case "number":
            return st.floats(schema["minimum"], schema["maximum"])
        case "boolean":
            return st.booleans()
    return st.sampled_from(["x", "no", "1e3", "a-b", "014"])


def one_engine(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in clusters.ENGINES or key == spec["engine"]}


SPECS = matching(SPEC).map(one_engine)
VALUES = st.dictionaries(st.sampled_from(CHART_WORDS) | TEXT.filter(lambda key: key != "replicas"), ANY, max_size=4)
many = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def cluster(spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "numbers", "namespace": "team", "labels": {"a": "b"}}
    return {"apiVersion": clusters.API_VERSION, "kind": clusters.KIND, "metadata": metadata, "spec": spec}


def operators_values(item: dict[str, Any]) -> Any:
    """What the operator renders, without what it adds by itself."""
    spec = {key: value for key, value in item["spec"].items() if key != "autoscaling"}
    found = operators.values({**item, "spec": spec})
    if found.get("auth") == {"existingSecret": "numbers-auth"} and "auth" not in spec.get("values", {}):
        del found["auth"]
    return found


@many
@given(SPECS, VALUES)
def test_values_are_the_operators(spec: dict[str, Any], more: dict[str, Any]) -> None:
    item = cluster({**spec, "values": {key: value for key, value in more.items() if key != "auth"}})
    assert clusters.to_values(item) == operators_values(item)


@many
@given(SPECS, VALUES)
def test_there_and_back_nothing_is_lost(spec: dict[str, Any], more: dict[str, Any]) -> None:
    item = cluster({**spec, "values": {key: value for key, value in more.items() if key != "auth"}})
    text = clusters.to_file(item)
    document = read(text.encode(), "f").sound()
    assert plain(document.values) == clusters.to_values(item)
    kept = clusters.kept(text)
    back = clusters.to_cluster(plain(document.values), kept["engine"], kept["metadata"], kept["spec"])
    assert back["metadata"] == item["metadata"]
    assert operators_values(back) == operators_values(item)
    rest = {"autoscaling", "suspend"}
    assert {key: back["spec"].get(key) for key in rest} == {key: spec.get(key) for key in rest}
    if "replicas" in spec:
        assert back["spec"]["replicas"] == spec["replicas"]


def is_taken(spec: dict[str, Any]) -> bool:
    """Tell whether the CRD's rules in CEL take an engine's block."""
    if "connect" in spec.get("spark", {}) and spec["spark"].get("mode") != "connect":
        return False
    broker = spec.get("celery", {}).get("broker", {})
    return ("existingSecret" not in broker or "type" not in broker) and (
        "tls" not in broker or "existingSecret" in broker
    )


@many
@given(SPECS.filter(is_taken))
def test_an_engines_block_comes_back_as_it_was(spec: dict[str, Any]) -> None:
    item = cluster({key: value for key, value in spec.items() if key != "values"})
    engine = spec["engine"]
    document = read(clusters.to_file(item).encode(), "f").sound()
    back = clusters.to_cluster(plain(document.values), engine, item["metadata"])["spec"]
    assert back.get(engine, {}) == spec.get(engine, {})
    # Of what rules or lists of a single name refuse, the rest.
    assert back.get("values", {}).keys() <= {"env", "volumes", "volumeMounts", "placement"}


@many
@given(SPECS.filter(is_taken), VALUES)
def test_what_comes_back_is_taken_by_the_crd(spec: dict[str, Any], more: dict[str, Any]) -> None:
    values = clusters.to_values(cluster({**spec, "values": {key: text for key, text in more.items() if key != "auth"}}))
    back = clusters.to_cluster(values, spec["engine"], {"name": "numbers"})["spec"]
    assert clusters.takes(SPEC, back)
    assert is_taken(back)


def test_the_schema_is_that_of_the_crd() -> None:
    assert charts.spec_schema() == SPEC
    assert {*crds._RESERVED} == clusters._RESERVED


@many
@given(VALUES, st.sampled_from(clusters.ENGINES), st.integers(0, 1000))
def test_values_become_the_same_values(values: dict[str, Any], engine: str, replicas: int) -> None:
    data = {**values, "replicas": replicas}
    back = clusters.to_cluster(data, engine, {"name": "numbers"})
    assert clusters.to_values(back) == data


@pytest.mark.parametrize("engine", clusters.ENGINES)
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_helm_installs_what_the_operator_renders(engine: str, data: st.DataObject) -> None:
    spec = {**data.draw(SPECS), "engine": engine}
    item = cluster(one_engine(spec))
    disable_logging()
    chart = Chart.load(charts.folder(engine))
    try:
        expected = chart.render(operators_values(item), name="numbers", namespace="team")
    except HelmError:
        return
    ours = chart.render(plain(read(clusters.to_file(item).encode(), "f").values), name="numbers", namespace="team")
    same = [path for path in expected if not path.endswith("auth.yaml")]
    assert [ours[path] for path in same if engine != "celery"] == [
        expected[path] for path in same if engine != "celery"
    ]
    assert ours.keys() == expected.keys()


def test_a_values_file_becomes_a_cluster_in_the_words_of_its_spec() -> None:
    values = {
        "image": "i",
        "resources": {"limits": {"cpu": 1}},
        "scheduler": {"resources": {"limits": {"cpu": "2"}}, "nodeSelector": {"a": "b"}},
        "config": {"distributed": {"x": 1}},
        "drainSeconds": 100_000,
        "podLabels": {"a": "b"},
    }
    assert clusters.to_cluster(values, "dask", {"name": "n"})["spec"] == {
        "engine": "dask",
        "replicas": 2,
        "image": "i",
        "resources": {"limits": {"cpu": 1}},
        "dask": {"config": {"distributed": {"x": 1}}, "scheduler": {"resources": {"limits": {"cpu": "2"}}}},
        "values": {"scheduler": {"nodeSelector": {"a": "b"}}, "drainSeconds": 100_000, "podLabels": {"a": "b"}},
    }


@pytest.mark.parametrize(
    ("engine", "values", "own", "rest"),
    [
        (
            "celery",
            {
                "broker": {"existingSecret": "mine", "tls": {"secretName": "ca"}, "queueType": "classic"},
                "pool": "threads",
            },
            {"broker": {"existingSecret": "mine", "tls": {"secretName": "ca"}}, "pool": "threads"},
            {"broker": {"queueType": "classic"}},
        ),
        (
            "celery",
            {"broker": {"type": "rabbitmq", "tls": {"secretName": "ca"}}, "flower": {"enabled": True, "image": "i"}},
            {"broker": {"type": "rabbitmq"}, "flower": {"enabled": True}},
            {"broker": {"tls": {"secretName": "ca"}}, "flower": {"image": "i"}},
        ),
        ("dask", {"spill": {"size": "1Gi"}}, {"spill": {"size": "1Gi"}}, {}),
        ("dask", {"spill": {"storageClassName": "fast"}}, {}, {"spill": {"storageClassName": "fast"}}),
        ("spark", {"connect": {"resources": {}}}, {}, {"connect": {"resources": {}}}),
        (
            "spark",
            {"mode": "connect", "connect": {"resources": {}}},
            {"mode": "connect", "connect": {"resources": {}}},
            {},
        ),
        ("spark", {"executor": {"cores": True, "memory": "1g"}}, {}, {"executor": {"cores": True, "memory": "1g"}}),
    ],
)
def test_what_an_engines_block_has_no_field_for_stays_in_values(
    engine: str, values: dict[str, Any], own: dict[str, Any], rest: dict[str, Any]
) -> None:
    spec = clusters.to_cluster(values, engine, {"name": "n"})["spec"]
    assert (spec.get(engine, {}), spec.get("values", {})) == (own, rest)


@pytest.mark.parametrize(
    ("volume", "where"),
    [
        ({"name": "data", "persistentVolumeClaim": {"claimName": "data"}}, "spec"),
        ({"name": "data", "hostPath": {"path": "/data"}}, "values"),
        ({"name": "tmp", "emptyDir": {}}, "values"),
    ],
)
def test_volumes_and_their_mounts_stay_together(volume: dict[str, Any], where: str) -> None:
    values = {"volumes": [volume], "volumeMounts": [{"name": volume["name"], "mountPath": "/data"}]}
    spec = clusters.to_cluster(values, "dask", {"name": "n"})["spec"]
    assert (spec if where == "spec" else spec["values"]).items() >= values.items()
    assert where == "values" or "values" not in spec


def test_what_the_server_adds_is_left_out() -> None:
    item = cluster({"engine": "dask"})
    item["metadata"] |= {
        "uid": "u",
        "managedFields": [],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "trireme.dev/applied": "1"},
    }
    item["status"] = {"replicas": 1}
    assert clusters.kept(clusters.to_file(item))["metadata"] == cluster({})["metadata"]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"kind": "WorkerJob", "apiVersion": clusters.API_VERSION}, "WorkerJob is no WorkerCluster"),
        (cluster({"engine": "ray"}), "spec.engine: must be one of dask, spark, celery"),
        (cluster({"engine": "dask", "values": {"replicas": 1}}), "spec.values.replicas: set spec.replicas"),
    ],
)
def test_what_is_no_cluster_is_refused(item: dict[str, Any], message: str) -> None:
    with pytest.raises(TriremeError, match=message):
        clusters.to_file(item)


def test_a_head_that_was_changed_is_refused() -> None:
    with pytest.raises(TriremeError, match="can't be read: take it out"):
        clusters.kept('# trireme: {"engine": }\n')
    with pytest.raises(TriremeError, match="replicas: a WorkerCluster takes"):
        clusters.to_cluster({"replicas": 5000}, "dask", {"name": "n"})


def test_manifests_of_many_objects_keep_their_places() -> None:
    raw = b"kind: A\n---\nkind: List\nitems: [{kind: B}]\n--- \nkind: C\nkind: D\n"
    with pytest.raises(TriremeError, match="f:7:1: kind is there already"):
        clusters.manifests(raw, "f")
    assert [item["kind"] for item in clusters.manifests(raw.replace(b"kind: D\n", b""), "f")] == ["A", "B", "C"]
