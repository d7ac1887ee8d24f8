"""What README.md and docs/ say in YAML: the CRDs and charts take it, and what follows from it is what they tell."""

import json
import re
from functools import reduce
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from operating import CHARTS, ENGINES, NAMESPACE, charts, cluster, group, schema_of, workers_of
from test_operator_crds import CRDS, validator

from pages import PAGES, Block, every, inline, manifests, snippets
from trireme_operator.api import Object
from trireme_operator.autoscale.decide import History, decide, rules
from trireme_operator.engines.demand import Demand
from trireme_operator.plan import cluster as cluster_plan

BLOCKS = [
    block
    for page in PAGES
    for block in every(page)
    if block.language == "yaml" and not block.file and block.page != "docs/design.md"
]


def clusters(item: Object) -> list[Object]:
    """Return the cluster that an object is, or brings."""
    if item["kind"] == "WorkerCluster":
        return [item]
    spec = item.get("spec", {}).get("clusterTemplate", {}).get("spec")
    return [{"kind": "WorkerCluster", "metadata": dict(item["metadata"]), "spec": spec}] if spec else []


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}-{block.heading}")
def test_blocks_are_valid(block: Block) -> None:
    for item in manifests(block.page, block.text):
        if item["kind"] in CRDS:
            validator(item["kind"]).validate(item)
        for one in clusters(item):
            assert charts.render(one["spec"]["engine"], one["metadata"]["name"], NAMESPACE, cluster_plan.values(one))


OFFERED = [
    ("docs/dask.md", *pair)
    for pair in zip(
        snippets("docs/dask.md", "Threads or processes", "yaml"),
        snippets("docs/dask.md", "Threads or processes", "text"),
        strict=True,
    )
] + [
    ("docs/celery.md", *pair)
    for pair in zip(
        snippets("docs/celery.md", "Prefork or threads", "yaml"),
        snippets("docs/celery.md", "Prefork or threads", "text"),
        strict=True,
    )
]


@pytest.mark.parametrize(("page", "given", "shown"), OFFERED)
def test_what_a_worker_offers(page: str, given: str, shown: str) -> None:
    """Each block of YAML is followed by its status.capacity."""
    (item,) = manifests(page, given)
    item["metadata"].update(namespace=NAMESPACE, uid="uid")
    assert cluster_plan.offered_by(workers_of(item)) == json.loads(shown)


def test_what_is_said_of_sizes() -> None:
    """Events as README.md has them: 12 tasks come, and are done."""
    (text,) = snippets("README.md", "Sized by the work that waits", "text")
    by = rules({"minReplicas": 0, "maxReplicas": 4, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}})
    said = []
    size = 0
    for waiting in (12, 0):
        work = Demand(workers=waiting, waiting=waiting, running=0, slots=1, least=0, unit="tasks")
        decision = decide(by, size, work, History(), 0.0)
        said.append(f"Scaled  from {size} to {decision.replicas} workers: {decision.message}")
        size = decision.replicas
    assert text.splitlines() == said


def test_the_queues_that_a_program_elsewhere_declares() -> None:
    """As the chart has a cluster's own programs declare them."""
    (code,) = snippets("docs/celery.md", "Brokers", "python")
    app = SimpleNamespace(conf=SimpleNamespace())
    exec(code, {"app": app})
    values = {"broker": {"type": "rabbitmq"}}
    rendered = charts.render("celery", "numbers", NAMESPACE, values)
    (conf,) = [item["data"] for item in rendered if item["metadata"]["name"] == "numbers-conf"]
    defaults = json.loads(conf["defaults.json"])
    assert vars(app.conf) == {
        name: defaults[name] for name in defaults if "queue_type" in name or "exchange_type" in name
    }
    assert len(vars(app.conf)) == 4


FORWARDS = [
    pytest.param(found[1], int(found[2]), id=f"{page}-{found[1]}")
    for page in PAGES
    for command in inline(page, "kubectl ")
    if (found := re.search(r"port-forward \S+/(?:NAME|<cluster>)-([a-z-]+) (\d+)$", command))
]
WITH_ALL: Object = {
    "dask": {},
    "spark": {"history": {"enabled": True, "existingClaim": "events"}, "mode": "connect"},
    "celery": {"flower": {"enabled": True}, "monitor": {"enabled": True}},
}


@pytest.mark.parametrize(("service", "port"), FORWARDS)
def test_ports_to_forward_are_those_of_services(service: str, port: int) -> None:
    ports = [
        each["port"]
        for engine, values in WITH_ALL.items()
        for item in charts.render(engine, "numbers", NAMESPACE, values)
        if item["kind"] == "Service" and item["metadata"]["name"] == f"numbers-{service}"
        for each in item["spec"]["ports"]
    ]
    assert port in ports


def test_every_forward_is_looked_at() -> None:
    assert len(FORWARDS) == sum("port-forward" in command for page in PAGES for command in inline(page, "kubectl ")) > 2


NAMED = sorted({field for page in PAGES for field in inline(page, r"(spec|status)\.[a-zA-Z.]+$")})


@pytest.mark.parametrize("field", NAMED)
def test_fields_that_are_named_are_there(field: str) -> None:
    steps = field.split(".")
    if steps[:2] == ["spec", "values"] and steps[2:]:
        charts_values = [yaml.safe_load((CHARTS / engine / "values.yaml").read_text()) for engine in ENGINES]
        assert any(reduce(_value, steps[2:], values) is not None for values in charts_values)
    else:
        assert any(reduce(_field, steps, schema_of(crd)) for crd in CRDS.values())


def _value(values: Any, name: str) -> Any:
    return values.get(name) if isinstance(values, dict) else None


def _field(schema: Object, name: str) -> Object:
    """Return the schema of a field, or of a map's values; an empty one if there is none."""
    found: Object = schema.get("properties", {}).get(name) or schema.get("additionalProperties") or {}
    return found


SETTINGS = inline("docs/celery.md", r"[a-zA-Z_.]+: ")


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_celery_are_valid(setting: str) -> None:
    """Each is a field of spec.celery, of spec, or one of Celery's own."""
    ((name, value),) = yaml.safe_load(re.sub("NAME|…", "name", setting)).items()
    for step in reversed(name.split(".")[1:]):
        value = {step: value}
    name = name.partition(".")[0]
    fields = schema_of(CRDS["WorkerCluster"])["properties"]["spec"]["properties"]
    if name in fields:
        item = cluster("celery", **{name: value})
    else:
        own = name in fields["celery"]["properties"]
        item = cluster("celery", celery={name: value} if own else {"config": {name: value}})
    if name == "celery":
        item = group(**{name: value})
    validator(item["kind"]).validate(item)
    if item["kind"] == "WorkerCluster":
        assert charts.render("celery", "numbers", NAMESPACE, cluster_plan.values(item))
