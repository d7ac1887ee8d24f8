"""Values against the charts' schemas: where, what, and what was meant."""

import functools
import json
import tomllib
from pathlib import Path
from typing import Any

import helm_python
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trireme.errors import TriremeError
from trireme.values import charts, schema
from trireme.values.layers import user_values, with_defaults
from trireme.values.reading import read

ENGINES = ("dask", "spark", "celery")


load = functools.cache(charts.load)


@functools.cache
def helms(engine: str) -> helm_python.Chart:
    helm_python.disable_logging()
    return helm_python.Chart.load(charts.folder(engine))


def found(engine: str, text: str) -> list[str]:
    chart = load(engine)
    values = with_defaults(user_values([read(text.encode(), "f")]), chart.defaults)
    return [str(finding).replace(": error:", "") for finding in schema.check(values, chart.schema)]


@pytest.mark.parametrize(
    ("engine", "text", "message"),
    [
        ("dask", "replica: 3\n", "f:1:1 replica: there is no such value: did you mean replicas?"),
        (
            "dask",
            "scheduler:\n  Resources: {}\n",
            "f:2:3 scheduler.Resources: there is no such value: did you mean resources?",
        ),
        ("dask", "replicas: '2'\n", "f:1:11 replicas: must be a whole number, not text"),
        ("dask", "replicas: 1.5\n", "f:1:11 replicas: must be a whole number, not the number 1.5"),
        ("dask", "replicas: -1\n", "f:1:11 replicas: -1 must be at least 0"),
        ("dask", "replicas: 10001\n", "f:1:11 replicas: 10001 must be at most 10000"),
        ("dask", "image: ''\n", "f:1:8 image: must not be empty"),
        ("dask", "image: 1.10\n", "f:1:8 image: 1.10 is read as the number 1.1, and must be text: quote it: '1.10'"),
        ("dask", "podLabels: {a: no}\n", "f:1:16 podLabels.a: no is read as false, and must be text: quote it: 'no'"),
        (
            "dask",
            "imagePullPolicy: always\n",
            "f:1:18 imagePullPolicy: always must be one of Always, IfNotPresent, Never: did",
        ),
        ("dask", "env:\n  - value: x\n", "f:2:5 env[0]: name is missing"),
        ("dask", "env: {X: 1}\n", "f:1:6 env: must be a list, not a map"),
        ("dask", "resources:\n  limits: {memory: 8Gb}\n", "f:2:20 resources.limits.memory: '8Gb' does not match"),
        ("dask", "resources:\n  limits: {cpu: 0}\n", "f:2:17 resources.limits.cpu: 0 must be above 0"),
        ("spark", "config: {spark a: 1}\n", "f:1:10 config.spark a: there is no such value"),
        ("celery", "queues: [a, a]\n", "f:1:9 queues: has the same item twice"),
        (
            "trireme",
            "logLevel: debug\n",
            "f:1:11 logLevel: debug must be one of DEBUG, INFO, WARNING, ERROR: did you mean DEBUG?",
        ),
    ],
)
def test_an_error_says_where_and_what_was_meant(engine: str, text: str, message: str) -> None:
    (only,) = found(engine, text)
    assert only.startswith(message)


@pytest.mark.parametrize("name", charts.NAMES)
def test_the_defaults_of_each_chart_are_right(name: str) -> None:
    assert found(name, "") == []


def test_all_errors_are_told_in_order() -> None:
    text = "zeta: 1\nreplicas: x\nimage: ''\n"
    assert [line.split(" ")[0] for line in found("dask", text)] == ["f:1:1", "f:2:11", "f:3:8"]


def test_a_default_that_was_taken_away_is_missing() -> None:
    assert any("image is missing" in line for line in found("dask", "image: null\n"))


WORDS = [
    *json.loads((charts.folder("dask") / "values.schema.json").read_text())["properties"],
    "replica",
    "limits",
    "cpu",
]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.sampled_from(["x", "", "2Gi", "Always", "A b"]),
    lambda below: (
        st.lists(below, max_size=2) | st.dictionaries(st.sampled_from([*WORDS, "name", "value"]), below, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    values=st.dictionaries(
        st.sampled_from([word for word in WORDS if word not in ("global", "common")]), ANY, max_size=3
    )
)
def test_what_helm_refuses_is_refused_and_nothing_else(engine: str, values: dict[str, Any]) -> None:
    try:
        helms(engine).validate_schema(values)
    except helm_python.HelmError:
        assert found(engine, json.dumps(values))
    else:
        assert not found(engine, json.dumps(values))


def test_a_chart_that_is_not_there(tmp_path: Any) -> None:
    with pytest.raises(TriremeError, match="chart desk: neither one of dask, spark"):
        charts.load("desk")
    (tmp_path / "Chart.yaml").write_text("name: c\n")
    assert charts.load(str(tmp_path)).schema is None
    (tmp_path / "values.schema.json").write_text("{")
    with pytest.raises(TriremeError, match="not JSON"):
        charts.load(str(tmp_path))


def test_the_wheel_brings_each_chart() -> None:
    top = Path(__file__).resolve().parents[3]
    project = tomllib.loads((top / "python" / "pyproject.toml").read_text())
    brought = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert brought == {f"../charts/{name}": f"trireme/charts/{name}" for name in charts.NAMES}
