"""The engine charts, as the operator renders them."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from helm_python import Chart
from operating import CHARTS, ENGINES, NAMESPACE, NOW, chart_objects, charts, cluster

from trireme_operator.api import CHART_KINDS, SELECTOR, Key, Object, key_of
from trireme_operator.charts import ChartProblem, Charts
from trireme_operator.engines import ENGINES as ADAPTERS
from trireme_operator.plan.cluster import Observed, owned, plan, status, values

ORDER = [kind.kind for kind in CHART_KINDS]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_rendered_is_what_helm_renders(engine: str) -> None:
    given = values(cluster(engine))
    texts = Chart.load(CHARTS / engine).render(given, name="numbers", namespace=NAMESPACE)
    expected: dict[Key, Object] = {}
    for path, text in texts.items():
        for item in yaml.safe_load_all(text) if path.endswith(".yaml") else ():
            if item:
                item["metadata"]["namespace"] = NAMESPACE
                expected[key_of(item)] = item
    found = charts.render(engine, "numbers", NAMESPACE, given)
    assert {key_of(item): item for item in found} == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_objects_come_in_the_order_to_apply_them_in(engine: str) -> None:
    found = charts.render(engine, "numbers", NAMESPACE, values(cluster(engine)))
    places = [ORDER.index(item["kind"]) for item in found]
    assert places == sorted(places)
    assert len(set(places)) > 3
    assert {item["metadata"]["namespace"] for item in found} == {NAMESPACE}


def test_what_was_rendered_before_is_remembered() -> None:
    mine = Charts(CHARTS)
    given = {"replicas": 3, "podLabels": {"a": "b", "c": "d"}}
    first = mine.render("dask", "numbers", NAMESPACE, given)
    # Not by identity, nor by the order of keys.
    again = mine.render("dask", "numbers", NAMESPACE, {"podLabels": {"c": "d", "a": "b"}, "replicas": 3})
    assert again is first


@pytest.mark.parametrize(
    ("engine", "name", "namespace", "given"),
    [
        ("spark", "numbers", NAMESPACE, {"replicas": 3}),
        ("dask", "others", NAMESPACE, {"replicas": 3}),
        ("dask", "numbers", "elsewhere", {"replicas": 3}),
        ("dask", "numbers", NAMESPACE, {"replicas": 4}),
    ],
)
def test_nothing_else_is_taken_for_what_is_remembered(engine: str, name: str, namespace: str, given: Object) -> None:
    mine = Charts(CHARTS)
    first = mine.render("dask", "numbers", NAMESPACE, {"replicas": 3})
    other = mine.render(engine, name, namespace, given)
    assert other != first
    assert other == Charts(CHARTS).render(engine, name, namespace, given)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trireme_operator.charts._REMEMBERED", 2)
    mine = Charts(CHARTS)

    def render(replicas: int) -> object:
        return mine.render("dask", "numbers", NAMESPACE, {"replicas": replicas})

    one, two = render(1), render(2)
    assert render(1) is one
    render(3)
    # The one that was longest not asked for went.
    assert render(1) is one
    assert render(2) is not two
    assert len(mine._rendered) == 2


@pytest.mark.parametrize(
    ("engine", "given", "words"),
    [
        ("dask", {"replicas": -1}, ["/replicas", "-1"]),
        ("dask", {"nonsense": 1}, ["nonsense"]),
        ("celery", {"queues": ["a b"]}, ["/queues/0", "a b"]),
        ("spark", {"drainSeconds": "soon"}, ["/drainSeconds"]),
    ],
)
def test_a_problem_names_the_value(engine: str, given: Object, words: list[str]) -> None:
    with pytest.raises(ChartProblem) as problem:
        charts.render(engine, "numbers", NAMESPACE, given)
    for word in words:
        assert word in str(problem.value)


@pytest.mark.parametrize(
    ("engine", "name", "given", "message"),
    [
        (
            "dask",
            "numbers",
            {"resources": {"limits": {"cpu": "1", "memory": "255Mi"}}},
            r"resources\.limits\.memory: 255Mi is too small for .*: use at least 256Mi",
        ),
        (
            "dask",
            "9lives",
            {},
            r"release name .9lives.: use lower-case letters, digits and '-', .* letter",
        ),
        ("spark", "x" * 46, {}, r"release name .* has 46 characters: use 45 at most"),
    ],
)
def test_a_problem_ends_with_the_charts_own_words(engine: str, name: str, given: Object, message: str) -> None:
    with pytest.raises(ChartProblem) as problem:
        charts.render(engine, name, NAMESPACE, given)
    assert re.search(f"{message}$", str(problem.value))


def test_a_problem_is_not_remembered() -> None:
    mine = Charts(CHARTS)
    for _ in range(2):
        with pytest.raises(ChartProblem):
            mine.render("dask", "numbers", NAMESPACE, {"replicas": -1})
    assert mine.render("dask", "numbers", NAMESPACE, {"replicas": 1})


@pytest.mark.parametrize("engine", ENGINES)
def test_an_adapter_is_true_to_its_chart(engine: str) -> None:
    item = cluster(engine)
    adapter = ADAPTERS[engine]
    objects = chart_objects(engine, **values(item))
    found = status(item, Observed({}), NOW)
    assert (adapter.control_kind.kind, f"numbers-{adapter.control}") in objects
    for point in found["endpoints"]:
        address = urlsplit(point["url"])
        service, namespace, suffix = str(address.hostname).split(".")
        assert (namespace, suffix) == (NAMESPACE, "svc")
        ports = {port["port"] for port in objects["Service", service]["spec"]["ports"]}
        assert address.port in ports
    labels = objects["Deployment", "numbers-worker"]["spec"]["template"]["metadata"]["labels"]
    assert dict(part.split("=") for part in found["selector"].split(",")).items() <= labels.items()


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_applied_is_seen_by_the_watches(engine: str) -> None:
    item = cluster(engine)
    rendered = charts.render(engine, "numbers", NAMESPACE, values(item))
    made = plan(item, owned(item, rendered), Observed({}), "guess", NOW)
    name, _, value = SELECTOR.partition("=")
    for one in made.apply + made.create:
        assert one["metadata"]["labels"][name] == value
    assert {one["kind"] for one in made.apply} <= set(ORDER)


def test_the_password_is_in_the_clusters_own_secret() -> None:
    item = cluster("celery")
    rendered = charts.render("celery", "numbers", NAMESPACE, values(item))
    # The chart makes up a new password with every rendering: it must not come from there.
    assert "Secret" not in {one["kind"] for one in rendered}
    (made,) = plan(item, owned(item, rendered), Observed({}), "guess", NOW).create
    references = [
        variable["valueFrom"]["secretKeyRef"]
        for one in rendered
        if one["kind"] in ("Deployment", "StatefulSet")
        for container in one["spec"]["template"]["spec"]["containers"]
        for variable in container["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    ]
    assert references
    for reference in references:
        assert reference["name"] == made["metadata"]["name"]
        assert reference["key"] in made["stringData"]


def test_charts_are_loaded_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "mine" / "templates").mkdir(parents=True)
    (tmp_path / "mine" / "Chart.yaml").write_text("{apiVersion: v2, name: mine, version: 0.1.0}")
    text = "kind: {{ .Values.kind }}\nmetadata: {name: {{ .Release.Name }}}\n---\n# Nothing here.\n"
    (tmp_path / "mine" / "templates" / "a.yaml").write_text(text)
    (tmp_path / "mine" / "templates" / "NOTES.txt").write_text("Not an object.")
    found = Charts(tmp_path).render("mine", "x", "y", {"kind": "Odd"})
    assert found == [{"kind": "Odd", "metadata": {"name": "x", "namespace": "y"}}]
