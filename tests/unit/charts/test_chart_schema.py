"""values.schema.json: what is refused, and in which words."""

import json
from typing import Any

import pytest
import yaml
from charting import CHARTS, ENGINES, Object, Render, limits
from helm_python import HelmValuesError

every_engine = pytest.mark.parametrize("engine", ENGINES)

ILL: list[tuple[Object, str]] = [
    ({"replica": 1}, r"additional properties 'replica' not allowed"),
    ({"replicas": -1}, r"'/replicas': minimum"),
    ({"replicas": 10001}, r"'/replicas': maximum"),
    ({"replicas": 1.5}, r"'/replicas': got number, want integer"),
    ({"replicas": "2"}, r"'/replicas': got string, want integer"),
    ({"image": ""}, r"'/image': minLength"),
    ({"imagePullPolicy": "Sometimes"}, r"'/imagePullPolicy': value must be one of"),
    ({"drainSeconds": 0}, r"'/drainSeconds': minimum"),
    (limits(cpu="one"), r"'/resources/limits/cpu': 'one' does not match"),
    (limits(cpu="-1"), r"'/resources/limits/cpu': '-1' does not match"),
    (limits(cpu=0), r"'/resources/limits/cpu': exclusiveMinimum"),
    (limits(memory="2GB"), r"'/resources/limits/memory': '2GB' does not match"),
    (limits(memory="2 Gi"), r"'/resources/limits/memory': '2 Gi' does not match"),
    (limits(memory=None), r"'/resources/limits': missing property 'memory'"),
    ({"resources": {"limit": {}}}, r"'/resources': additional properties 'limit' not allowed"),
    ({"code": {"configmap": "x"}}, r"'/code': additional properties 'configmap' not allowed"),
    ({"code": {"configMap": "No"}}, r"'/code/configMap': 'No' does not match"),
    ({"env": [{"value": "x"}]}, r"'/env/0': missing property 'name'"),
    ({"env": [{"name": "X", "value": 1}]}, r"'/env/0/value': got number, want string"),
    ({"env": {"X": "1"}}, r"'/env': got object, want array"),
    ({"volumeMounts": [{"name": "x"}]}, r"'/volumeMounts/0': missing property 'mountPath'"),
    ({"tolerations": [{"effect": "Never"}]}, r"'/tolerations/0/effect': value must be one of"),
    ({"podLabels": {"a": 1}}, r"'/podLabels/a': got number, want string"),
]

OWN: list[tuple[str, Object, str]] = [
    ("dask", {"scheduler": {"replicas": 2}}, r"'/scheduler': additional properties 'replicas' not allowed"),
    ("dask", {"scheduler": limits(cpu="x")}, r"'/scheduler/resources/limits/cpu'"),
    ("dask", {"config": "x"}, r"'/config': got string, want object"),
    ("dask", {"master": {}}, r"additional properties 'master' not allowed"),
    ("spark", {"config": {"spark.a": {"b": 1}}}, r"'/config/spark.a': got object"),
    ("spark", {"config": {"spark a": 1}}, r"'/config': additional properties 'spark a' not allowed"),
    ("spark", {"config": {"spark.a": "b\nspark.master local"}}, r"'/config/spark.a': .* does not match"),
    ("spark", {"master": {"persistence": {"size": "big"}}}, r"'/master/persistence/size': 'big'"),
    ("spark", {"mode": "cluster"}, r"'/mode': value must be one of 'standalone', 'connect'"),
    ("spark", {"executor": {"cores": -1}}, r"'/executor/cores': minimum"),
    ("spark", {"executor": {"memory": "2g"}}, r"'/executor/memory': '2g' does not match"),
    ("spark", {"history": {"directory": "/logs"}}, r"'/history/directory': '/logs' does not match"),
    ("spark", {"auth": {"password": "x"}}, r"'/auth': additional properties 'password' not allowed"),
    ("celery", {"app": "shop tasks"}, r"'/app': 'shop tasks' does not match"),
    ("celery", {"app": ""}, r"'/app': '' does not match"),
    ("celery", {"queues": ["a,b"]}, r"'/queues/0': 'a,b' does not match"),
    ("celery", {"queues": ["a", "a"]}, r"'/queues': items at 0 and 1 are equal"),
    ("celery", {"config": {"worker_concurrency": 0}}, r"'/config/worker_concurrency': minimum"),
    ("celery", {"config": {"task_queue_max_priority": "$(id)"}}, r"'/config/task_queue_max_priority': got string"),
    ("celery", {"pool": "gevent"}, r"'/pool': value must be one of"),
    ("celery", {"broker": {"type": "kafka"}}, r"'/broker/type': value must be one of"),
    ("celery", {"broker": {"queueType": "stream"}}, r"'/broker/queueType': value must be one of"),
    ("celery", {"deadLetters": {"queue": "x"}}, r"'/deadLetters': additional properties 'queue' not allowed"),
    ("celery", {"beat": {"schedule": "x"}}, r"'/beat': additional properties 'schedule' not allowed"),
    ("celery", {"broker": {"host": "x"}}, r"'/broker': additional properties 'host' not allowed"),
    ("celery", {"auth": {"password": "x"}}, r"'/auth': additional properties 'password' not allowed"),
]


def schema(engine: str) -> Any:
    return json.loads((CHARTS / engine / "values.schema.json").read_text())


@every_engine
@pytest.mark.parametrize(("values", "message"), ILL)
def test_refused_by_all(render: Render, engine: str, values: Object, message: str) -> None:
    with pytest.raises(HelmValuesError, match=message):
        render(engine, values)


@pytest.mark.parametrize(("engine", "values", "message"), OWN)
def test_refused_by_one(render: Render, engine: str, values: Object, message: str) -> None:
    with pytest.raises(HelmValuesError, match=message):
        render(engine, values)


def objects(node: Any) -> list[Object]:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    own = [node] if isinstance(node, dict) and "properties" in node else []
    return own + [found for item in inner for found in objects(item)]


@every_engine
def test_schema_knows_every_value_and_no_more(engine: str) -> None:
    values = yaml.safe_load((CHARTS / engine / "values.yaml").read_text())
    whole = schema(engine)
    assert whole["additionalProperties"] is False
    # Helm itself puts the last two in.
    assert whole["properties"].keys() == values.keys() | {"global", "common"}
    for name, value in values.items():
        block = whole["properties"][name]
        if isinstance(value, dict) and "properties" in block and block.get("additionalProperties") is False:
            assert block["properties"].keys() == value.keys()


def test_engines_agree_on_what_they_share() -> None:
    first, *others = (schema(engine) for engine in ENGINES)
    shared = set.intersection(*(set(one["properties"]) for one in (first, *others))) - {"config"}
    assert len(shared) >= 18
    for other in others:
        assert other["definitions"] == first["definitions"]
        for name in shared:
            assert other["properties"][name] == first["properties"][name]
