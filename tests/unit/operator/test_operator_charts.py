"""The engine charts, as the operator renders them."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from helm_python import Chart
from operating import CHARTS, ENGINES, NAMESPACE, NOW, chart_objects, charts, cluster, schema_of

from trireme_operator import crds
from trireme_operator.api import CHART_KINDS, SELECTOR, Key, Object, key_of
from trireme_operator.charts import ChartProblem, Charts, HelmCommand, InProcess
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
    mine = Charts(CHARTS, InProcess())
    given = {"replicas": 3, "podLabels": {"a": "b", "c": "d"}}
    first = mine.render("dask", "numbers", NAMESPACE, given)
    # Not by identity, nor by the order of keys.
    again = mine.render("dask", "numbers", NAMESPACE, {"podLabels": {"c": "d", "a": "b"}, "replicas": 3})
    assert again is first


@pytest.mark.parametrize(
    ("engine", "name", "namespace", "given"),
    [
        ("spark", "numbers", NAMESPACE, {"replicas": 3, "auth": {"existingSecret": "own"}}),
        ("dask", "others", NAMESPACE, {"replicas": 3}),
        ("dask", "numbers", "elsewhere", {"replicas": 3}),
        ("dask", "numbers", NAMESPACE, {"replicas": 4}),
    ],
)
def test_nothing_else_is_taken_for_what_is_remembered(engine: str, name: str, namespace: str, given: Object) -> None:
    mine = Charts(CHARTS, InProcess())
    first = mine.render("dask", "numbers", NAMESPACE, {"replicas": 3})
    other = mine.render(engine, name, namespace, given)
    assert other != first
    assert other == Charts(CHARTS, InProcess()).render(engine, name, namespace, given)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trireme_operator.charts._REMEMBERED", 2)
    mine = Charts(CHARTS, InProcess())

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
    ("engine", "place", "given", "end"),
    [
        *(
            ("spark", "/config/spark.app.name", {"config": {"spark.app.name": "TEXT"}}, end)
            for end in "\x85\u2028\u2029"
        ),
        *(
            ("celery", "/env/0/value", {"env": [{"name": "A", "value": "of\ntwo linesTEXT"}]}, end)
            for end in "\u2028\u2029"
        ),
        *(("dask", "/podAnnotations/a", {"podAnnotations": {"a": "of\ntwo linesTEXT"}}, end) for end in "\u2028\u2029"),
    ],
)
def test_a_value_makes_no_objects_of_its_own(engine: str, place: str, given: Object, end: str) -> None:
    text = end.join(["", "---", "apiVersion: v1", "kind: Service", "metadata: {name: theirs}"])
    with pytest.raises(ChartProblem, match=rf"at '{place}': the character U\+{ord(end):04X} ends a line in YAML"):
        charts.render(
            engine, "numbers", NAMESPACE, json.loads(json.dumps(given).replace("TEXT", json.dumps(text)[1:-1]))
        )


@pytest.mark.parametrize("end", ["\n", "\r", "\x85", "\u2028"])
def test_what_a_chart_writes_in_quotes_may_end_lines(end: str) -> None:
    text = f"a{end}---{end}kind: Service"
    found = charts.render("dask", "numbers", NAMESPACE, {"image": text})
    (worker,) = [
        item for item in found if item["metadata"]["name"] == "numbers-worker" and item["kind"] == "Deployment"
    ]
    assert worker["spec"]["template"]["spec"]["containers"][0]["image"] == text


@pytest.mark.parametrize(
    ("engine", "name", "given", "message"),
    [
        (
            "dask",
            "numbers",
            {"resources": {"limits": {"cpu": "1", "memory": "255Mi"}}},
            r"resources\.limits\.memory: 255Mi is too small for [^:]*: use at least 256Mi",
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
def test_a_problem_is_told_in_the_charts_own_words(engine: str, name: str, given: Object, message: str) -> None:
    with pytest.raises(ChartProblem) as problem:
        charts.render(engine, name, NAMESPACE, given)
    # Nothing of the template that says so.
    assert re.fullmatch(message, str(problem.value))


def test_a_chart_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ChartProblem, match="dask"):
        Charts(tmp_path, InProcess()).render("dask", "numbers", NAMESPACE, {})


def test_a_problem_is_not_remembered() -> None:
    mine = Charts(CHARTS, InProcess())
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


def images(engine: str, given: Object) -> dict[str, str]:
    return {
        container["name"]: container["image"]
        for one in charts.render(engine, "numbers", NAMESPACE, given)
        if one["kind"] in ("Deployment", "StatefulSet")
        for container in one["spec"]["template"]["spec"]["containers"]
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_every_image_of_a_chart_may_come_from_a_registry(engine: str) -> None:
    plain = images(engine, values(cluster(engine)))
    assert len(plain) == 2
    found = images(engine, values(cluster(engine), "registry.example/team"))
    assert found == {name: f"registry.example/team/{image}" for name, image in plain.items()}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_image_that_a_cluster_names_is_of_no_other_registry(engine: str) -> None:
    named = values(cluster(engine, image="mine:1"), "registry.example/team")
    assert images(engine, named)["worker"] == "mine:1"
    over = values(cluster(engine, image="mine:1", values={"image": "mine:2"}), "registry.example/team")
    assert images(engine, over)["worker"] == "mine:2"


def test_the_image_of_a_broker_is_kept_beside_what_else_a_cluster_says_of_it() -> None:
    item = cluster("celery", celery={"broker": {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}})
    found = images("celery", values(item, "registry.example/team"))
    assert found["broker"].startswith("registry.example/team/")
    item["spec"]["values"] = {"broker": {"image": "redis:8"}}
    assert images("celery", values(item, "registry.example/team"))["broker"] == "redis:8"


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


def helm(folder: Path, script: str) -> HelmCommand:
    """Return a renderer by a command in the place of helm."""
    command = folder / "helm"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    return HelmCommand(str(command))


@pytest.mark.parametrize(
    ("engine", "values"),
    [
        ("dask", {"spill": {"size": "1Gi", "storageClassName": "fast"}}),
        ("spark", {"mode": "connect", "history": {"enabled": True, "existingClaim": "logs"}}),
        ("celery", {"monitor": {"enabled": True}, "broker": {"type": "rabbitmq"}}),
        ("celery", {"beat": {"enabled": True}, "flower": {"enabled": True}}),
        ("celery", {"beat": {"enabled": True, "persistence": {"enabled": False}}}),
        ("celery", {"broker": {"existingSecret": "a", "tls": {"secretName": "b"}}}),
    ],
)
def test_a_users_volume_can_have_any_name_that_is_not_refused(engine: str, values: Object) -> None:
    mine = {"volumes": [{"name": "mine", "emptyDir": {}}], "code": {"configMap": "tasks"}}
    names = set()
    for item in charts.render(engine, "numbers", NAMESPACE, {**values, **mine}):
        spec = item.get("spec", {})
        here = {volume["name"] for volume in spec.get("template", {}).get("spec", {}).get("volumes", [])}
        if "mine" in here:
            names |= here | {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    assert {"tmp", "scripts", "code"} <= names
    rules = schema_of(crds.worker_cluster())["properties"]["spec"]["properties"]["volumes"]["x-kubernetes-validations"]
    assert [name for name in names - {"mine"} if f"'{name}'" not in rules[0]["rule"]] == []


def test_the_helm_command_is_asked_for_what_is_wanted(tmp_path: Path) -> None:
    script = f"""
printf '%s ' "$@" > {tmp_path}/asked
cp "${{5#--values=}}" {tmp_path}/values
printf -- '---\\n# Source: a.yaml\\nkind: Odd\\nmetadata: {{name: b}}\\n---\\n'
printf -- 'kind: Odd\\nmetadata: {{name: a}}\\n---\\n# Source: b.yaml\\n# Nothing here.\\n'
"""
    found = Charts(tmp_path, helm(tmp_path, script)).render("mine", "x", "y", {"replicas": 2})
    assert [item["metadata"] for item in found] == [{"name": name, "namespace": "y"} for name in "ab"]
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith(f"template x {tmp_path}/mine --namespace=y --values=")
    assert json.loads((tmp_path / "values").read_text()) == {"replicas": 2}


def test_what_the_helm_command_refuses_is_a_problem(tmp_path: Path) -> None:
    message = "Error: execution error at (mine/templates/a.yaml:1:2): replicas: too many"
    with pytest.raises(ChartProblem) as problem:
        helm(tmp_path, f"echo '{message}' >&2; exit 1").render(tmp_path / "mine", "x", "y", {})
    assert str(problem.value) == "replicas: too many"


def test_what_is_no_yaml_is_a_problem() -> None:
    with pytest.raises(ChartProblem, match="no YAML"):
        charts.render("spark", "numbers", NAMESPACE, {"config": {"spark.app.name": "\x1f"}})


def test_charts_are_loaded_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "mine" / "templates").mkdir(parents=True)
    (tmp_path / "mine" / "Chart.yaml").write_text("{apiVersion: v2, name: mine, version: 0.1.0}")
    text = "kind: {{ .Values.kind }}\nmetadata: {name: {{ .Release.Name }}}\n---\n# Nothing here.\n"
    (tmp_path / "mine" / "templates" / "a.yaml").write_text(text)
    (tmp_path / "mine" / "templates" / "NOTES.txt").write_text("Not an object.")
    found = Charts(tmp_path, InProcess()).render("mine", "x", "y", {"kind": "Odd"})
    assert found == [{"kind": "Odd", "metadata": {"name": "x", "namespace": "y"}}]
