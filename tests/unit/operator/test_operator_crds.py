"""The CustomResourceDefinitions: bounded, described, and written out."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from operating import CHARTS, STAMP, closed, cluster, condition, cron_job, job, schema_of

from trireme_operator import crds
from trireme_operator.api import (
    CHART_KINDS,
    JOB_MANAGER,
    WORKER_CLUSTER,
    WORKER_CRON_JOB,
    WORKER_GROUP,
    WORKER_JOB,
    Kind,
    Object,
)
from trireme_operator.engines import ENGINES
from trireme_operator.plan.job import is_anothers
from trireme_operator.quantity import number

TOP = CHARTS.parent
CRDS = {
    "WorkerCluster": crds.worker_cluster(),
    "WorkerGroup": crds.worker_group(),
    "WorkerJob": crds.worker_job(),
    "WorkerCronJob": crds.worker_cron_job(),
}
SAMPLES = sorted((TOP / "manifests" / "samples").rglob("*.yaml"))
every_crd = pytest.mark.parametrize("kind", CRDS)


def walk(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """Yield each schema below one, with its path: .name for a field, [] for an item, {} for a map's value."""
    for name, field in schema.get("properties", {}).items():
        yield from walk_one(field, f"{path}.{name}")
    if "items" in schema:
        yield from walk_one(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk_one(schema["additionalProperties"], f"{path}{{}}")


def walk_one(schema: Object, path: str) -> Iterator[tuple[str, Object]]:
    yield path, schema
    yield from walk(schema, path)


def fields(kind: str) -> list[tuple[str, Object]]:
    schema = schema_of(CRDS[kind])
    # What every object has is described by Kubernetes.
    own = [found for found in walk(schema) if found[0].startswith((".spec", ".status"))]
    assert len(own) > 30
    return own


@every_crd
def test_every_field_is_described(kind: str) -> None:
    named = [(path, field) for path, field in fields(kind) if not path.endswith(("[]", "{}"))]
    assert [path for path, field in named if not str(field.get("description", "")).endswith(".")] == []
    assert schema_of(CRDS[kind])["description"].endswith(".")


def unbounded(field: Object) -> bool:
    if field.get("x-kubernetes-preserve-unknown-fields"):
        return field != {"type": "object", "x-kubernetes-preserve-unknown-fields": True, **described(field)}
    if field.get("x-kubernetes-int-or-string"):
        return "maxLength" not in field
    type_ = field["type"]
    if type_ == "string":
        return not ("maxLength" in field or "enum" in field or field.get("format") == "date-time")
    if type_ == "array":
        return "maxItems" not in field
    if type_ == "object":
        return "properties" not in field and "maxProperties" not in field
    if type_ in ("integer", "number"):
        generation = field.get("format") == "int64" and "generation" in field["description"]
        return not (generation or {"minimum", "maximum"} <= field.keys())
    return type_ != "boolean"


def described(field: Object) -> Object:
    return {"description": field["description"]}


@every_crd
def test_everything_is_bounded(kind: str) -> None:
    assert [path for path, field in fields(kind) if unbounded(field)] == []


@pytest.mark.parametrize(
    "field",
    [
        {"type": "string"},
        {"type": "array", "items": {}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "integer", "minimum": 0, "description": "A number."},
        {"x-kubernetes-int-or-string": True},
        {"type": "number"},
    ],
)
def test_what_is_not_bounded_is_seen(field: Object) -> None:
    assert unbounded(field)


@every_crd
def test_a_rules_message_says_what_to_do(kind: str) -> None:
    rules = [rule for _, field in fields(kind) for rule in field.get("x-kubernetes-validations", [])]
    assert len(rules) > 2
    for rule in rules:
        assert rule["rule"]
        assert rule["message"]


@every_crd
def test_every_field_that_is_required_is_one(kind: str) -> None:
    for path, field in fields(kind):
        assert set(field.get("required", [])) <= field.get("properties", {}).keys(), path


@pytest.mark.parametrize(
    ("kind", "short"), [(WORKER_CLUSTER, "wc"), (WORKER_GROUP, "wg"), (WORKER_JOB, "wj"), (WORKER_CRON_JOB, "wcj")]
)
def test_names(kind: Kind, short: str) -> None:
    crd = CRDS[kind.kind]
    assert crd["metadata"]["name"] == f"{kind.plural}.{kind.group}"
    names = crd["spec"]["names"]
    assert (names["kind"], names["plural"], names["singular"]) == (kind.kind, kind.plural, kind.kind.lower())
    assert (names["shortNames"], names["categories"]) == ([short], ["trireme"])
    (version,) = crd["spec"]["versions"]
    assert (version["name"], version["served"], version["storage"]) == (kind.version, True, True)
    assert (crd["spec"]["group"], crd["spec"]["scope"]) == (kind.group, "Namespaced")


def test_what_has_workers_has_a_scale() -> None:
    found = {kind: crd["spec"]["versions"][0]["subresources"] for kind, crd in CRDS.items()}
    scaled = {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
    plain: Object = {"status": {}}
    assert found == {"WorkerCluster": scaled, "WorkerGroup": scaled, "WorkerJob": plain, "WorkerCronJob": plain}


@every_crd
def test_columns_and_scale_show_fields_that_there_are(kind: str) -> None:
    (version,) = CRDS[kind]["spec"]["versions"]
    known = {path for path, _ in fields(kind)} | {".metadata.creationTimestamp"}
    paths = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    paths += version["subresources"].get("scale", {}).values()
    for path in paths:
        head, _, last = path.partition("[?(@.type==")
        assert head in known
        if last:
            assert f"{head}[].{last.rpartition('.')[2]}" in known


def test_engines_are_those_there_are() -> None:
    for spec in (
        schema_of(CRDS["WorkerCluster"])["properties"]["spec"],
        schema_of(CRDS["WorkerJob"])["properties"]["spec"]["properties"]["clusterTemplate"]["properties"]["spec"],
    ):
        assert set(spec["properties"]["engine"]["enum"]) == set(ENGINES)
        assert set(ENGINES) <= spec["properties"].keys()
        rules = " ".join(rule["rule"] for rule in spec["x-kubernetes-validations"])
        assert all(f"has(self.{engine})" in rules for engine in ENGINES)


def test_an_engine_is_fixed_in_a_jobs_template_too() -> None:
    cluster_spec = schema_of(CRDS["WorkerCluster"])["properties"]["spec"]
    template = schema_of(CRDS["WorkerJob"])["properties"]["spec"]["properties"]["clusterTemplate"]["properties"]["spec"]
    fixed = "self.engine == oldSelf.engine"
    assert fixed in [rule["rule"] for rule in cluster_spec["x-kubernetes-validations"]]
    assert fixed in [rule["rule"] for rule in template["x-kubernetes-validations"]]


def test_bounds_and_directions_are_those_of_autoscaling_v2() -> None:
    for kind, path in (
        ("WorkerCluster", ".spec"),
        ("WorkerGroup", ".spec"),
        ("WorkerJob", ".spec.clusterTemplate.spec"),
    ):
        found = dict(fields(kind))
        autoscaling = found[f"{path}.autoscaling"]
        (rule,) = autoscaling["x-kubernetes-validations"]
        assert rule["rule"] == "self.minReplicas <= self.maxReplicas"
        # The rule may rely on both.
        assert autoscaling["required"] == ["maxReplicas"]
        assert found[f"{path}.autoscaling.minReplicas"]["default"] == 1
        assert found[f"{path}.autoscaling.mode"]["default"] == "Auto"
        # YAML takes some words for true or false unless they are quoted.
        assert all(yaml.safe_load(mode) == mode for mode in found[f"{path}.autoscaling.mode"]["enum"])
        assert "default" not in found[f"{path}.autoscaling.idleTimeoutSeconds"]
        for way in ("scaleUp", "scaleDown"):
            direction = f"{path}.autoscaling.behavior.{way}"
            assert found[direction]["properties"].keys() == {
                *("stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance")
            }
            # The two differ in their defaults, which only who decides knows.
            assert "default" not in found[f"{direction}.stabilizationWindowSeconds"]


def test_a_template_of_jobs_may_change() -> None:
    rules = [rule["rule"] for _, field in fields("WorkerCronJob") for rule in field.get("x-kubernetes-validations", [])]
    assert rules
    assert not [rule for rule in rules if "oldSelf" in rule]
    # What makes a job invalid makes its template so.
    jobs = [rule["rule"] for _, field in fields("WorkerJob") for rule in field.get("x-kubernetes-validations", [])]
    assert {rule for rule in jobs if "oldSelf" not in rule} <= set(rules)


def test_a_cron_jobs_name_leaves_room_for_its_jobs() -> None:
    names = schema_of(CRDS["WorkerCronJob"])["properties"]["metadata"]["properties"]["name"]
    jobs = schema_of(CRDS["WorkerJob"])["properties"]["metadata"]["properties"]["name"]
    assert names["maxLength"] + len("-29000000") == jobs["maxLength"]


def test_who_looks_after_a_job_is_fixed_and_this_operator_unless_said() -> None:
    spec = schema_of(CRDS["WorkerJob"])["properties"]["spec"]
    assert spec["properties"]["managedBy"]["default"] == JOB_MANAGER
    assert "self.managedBy == oldSelf.managedBy" in [rule["rule"] for rule in spec["x-kubernetes-validations"]]
    assert not is_anothers(job())
    assert not is_anothers(job(managedBy=JOB_MANAGER))
    assert "managedBy" not in schema_of(CRDS["WorkerCluster"])["properties"]["spec"]["properties"]


def test_a_driver_runs_one_program() -> None:
    driver = schema_of(CRDS["WorkerJob"])["properties"]["spec"]["properties"]["driver"]
    rule, _ = driver["x-kubernetes-validations"]
    assert rule["rule"] == (
        "has(self.script) ? !has(self.command) && !has(self.code) : has(self.command) || has(self.code)"
    )


QUANTITIES = [*("1", "0.5", ".5", "2.", "+3", "500m", "1.5Gi", "1Ki", "250u", "5n", "2E", "2e9", "2E3", "30E-1")]
NO_QUANTITIES = [*("", "Gi", "1 Gi", "1gi", "1K", "one", "-1", ".", "1e", "1Gi ", "0x10", "1Gim")]


@pytest.mark.parametrize("quantity", [*QUANTITIES, *NO_QUANTITIES])
def test_the_pattern_of_quantities_is_what_is_read_as_one(quantity: str) -> None:
    pattern = re.compile(crds._QUANTITY["pattern"])
    assert bool(pattern.search(quantity)) is (quantity in QUANTITIES)
    if quantity in QUANTITIES:
        number(quantity)
    for item in (
        cluster(resources={"limits": {"memory": quantity}}),
        job(driver={"script": "x", "resources": {"requests": {"cpu": quantity}}}),
    ):
        assert validator(item["kind"]).is_valid(item) is (quantity in QUANTITIES)


def validator(kind: str) -> jsonschema.Draft202012Validator:
    schema = schema_of(CRDS[kind])
    found = closed({**schema, "properties": {**schema["properties"], "metadata": {"type": "object"}}})
    return jsonschema.Draft202012Validator(found)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_samples_are_valid(sample: Path) -> None:
    objects = [item for item in yaml.safe_load_all(sample.read_text()) if item and item["kind"] in CRDS]
    assert objects
    for item in objects:
        validator(item["kind"]).validate(item)


def behave(policies: list[Object], **more: Any) -> Object:
    return {"stabilizationWindowSeconds": 0, "selectPolicy": "Min", "policies": policies, **more}


VALID: list[Object] = [
    cluster(),
    cluster("celery", celery={"app": "tasks:app", "queues": ["a"]}),
    cluster("celery", celery={"pool": "threads", "broker": {"type": "rabbitmq"}, "beat": {"enabled": True}}),
    cluster("celery", celery={"broker": {"existingSecret": "a", "tls": {"secretName": "a"}}}),
    cluster(resources={"limits": {"cpu": 1, "memory": "1Gi"}}, env=[{"name": "A", "value": "b"}]),
    cluster(status={"replicas": 1, "conditions": [condition("Ready", "True")]}),
    job(),
    job(clusterTemplate={"spec": {"engine": "spark"}}, ttlSecondsAfterFinished=0),
    job(driver={"code": {"configMap": "program"}}),
    job(driver={"code": {"configMap": "program"}, "command": ["python", "x.py"]}),
    job(status={"state": "Complete", "duration": "1m5s"}),
    cluster(autoscaling={"maxReplicas": 1}),
    cluster(replicas=0, autoscaling={"minReplicas": 0, "maxReplicas": 1000, "behavior": {}}),
    cluster(autoscaling={"maxReplicas": 8, "behavior": {"scaleUp": {}, "scaleDown": {"selectPolicy": "Disabled"}}}),
    cluster(
        autoscaling={
            "maxReplicas": 8,
            "behavior": {
                "scaleUp": behave([{"type": "Pods", "value": 4, "periodSeconds": 1800}], tolerance=0.05),
                "scaleDown": behave([{"type": "Percent", "value": 100, "periodSeconds": 1}] * 16, tolerance=0),
            },
        }
    ),
    cluster(status={"autoscaling": {"desiredReplicas": 0, "demand": "", "reason": "", "lastScaleTime": STAMP}}),
    job(clusterTemplate={"spec": {"engine": "spark", "autoscaling": {"maxReplicas": 3}}}),
    *(cluster(autoscaling={"maxReplicas": 8, "idleTimeoutSeconds": seconds}) for seconds in (1, 604800)),
    *(cluster(autoscaling={"maxReplicas": 8, "mode": mode}) for mode in ("Auto", "Observe")),
    cluster(status={"autoscaling": {"nextScaleTime": STAMP}}),
    job(managedBy="trireme.dev/workerjob-controller"),
    job(managedBy="kueue.x-k8s.io/multikueue"),
    job(startDeadlineSeconds=1),
    job(
        driver={
            "script": "x",
            "priorityClassName": "system-cluster-critical",
            "nodeSelector": {"kubernetes.io/arch": "arm64"},
            "tolerations": [{"operator": "Exists"}, {"key": "a/b", "value": "c", "effect": "NoExecute"}],
        }
    ),
    cron_job(),
    cron_job(timeZone="America/Argentina/Buenos_Aires", startingDeadlineSeconds=0, suspend=True),
    *(cron_job(timeZone=zone) for zone in ("Etc/GMT+3", "UTC", "EST5EDT")),
    *(cron_job(concurrencyPolicy=policy) for policy in ("Allow", "Forbid", "Replace")),
    cron_job(jobTemplate={"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": job()["spec"]}),
    cron_job(status={"active": [{"name": "a", "uid": "b"}], "lastScheduleTime": STAMP}),
    cluster("spark", spark={"mode": "connect", "connect": {"resources": {"limits": {"memory": "2Gi"}}}}),
    cluster("spark", spark={"executor": {"cores": 2, "memory": "1Gi"}}),
]
INVALID: list[Object] = [
    cluster("ray"),
    cluster("spark", spark={"mode": "cluster"}),
    cluster("spark", spark={"executor": {"cores": 0}}),
    cluster("spark", spark={"executor": {"memory": "1g"}}),
    cluster(replicas=-1),
    cluster(replicas=1001),
    cluster(replicas="2"),
    cluster(image=""),
    cluster(drainSeconds=0),
    cluster(unknown=1),
    cluster(code={"configMap": "Not A Name"}),
    cluster(env=[{"value": "b"}]),
    cluster(status={"conditions": [{**condition("Ready", "True"), "status": "Maybe"}]}),
    *(job(startDeadlineSeconds=wrong) for wrong in (0, -1, "60", 31536001)),
    job(driver={"script": "x", "priorityClassName": "Not A Name"}),
    job(driver={"script": "x", "tolerations": [{"operator": "In"}]}),
    job(driver={"script": "x", "tolerations": [{"effect": "Never"}]}),
    job(driver={"script": "x", "nodeSelector": {"a": 1}}),
    cron_job(schedule=""),
    cron_job(timeZone=""),
    *(cron_job(timeZone=zone) for zone in ("../etc", "-a", "a b", "Europe/")),
    cron_job(concurrencyPolicy="Queue"),
    cron_job(startingDeadlineSeconds=-1),
    cron_job(successfulJobsHistoryLimit=-1),
    cron_job(jobTemplate={}),
    cron_job(jobTemplate={"spec": {"clusterRef": {"name": "numbers"}}}),
    cron_job(jobTemplate={"spec": job()["spec"], "metadata": {"name": "mine"}}),
    job(backoffLimit=-1),
    job(clusterRef={}),
    job(driver={"script": ""}),
    job(driver={"command": []}),
    job(driver={"code": {}}),
    job(driver={"code": {"configMap": ""}}),
    job(clusterTemplate={"spec": {}}),
    cluster(autoscaling={}),
    cluster(autoscaling={"minReplicas": 1}),
    cluster(autoscaling={"maxReplicas": 0}),
    cluster(autoscaling={"maxReplicas": 1001}),
    cluster(autoscaling={"minReplicas": -1, "maxReplicas": 1}),
    cluster(autoscaling={"maxReplicas": "8"}),
    cluster(autoscaling={"maxReplicas": 8, "metrics": []}),
    *(
        cluster(autoscaling={"maxReplicas": 8, "behavior": {"scaleUp": wrong}})
        for wrong in [
            behave([{"type": "Workers", "value": 1, "periodSeconds": 1}]),
            behave([{"type": "Pods", "value": 0, "periodSeconds": 1}]),
            behave([{"type": "Pods", "value": 1, "periodSeconds": 0}]),
            behave([{"type": "Pods", "value": 1, "periodSeconds": 1801}]),
            behave([{"type": "Pods", "value": 1}]),
            behave([{"type": "Pods", "value": 1, "periodSeconds": 1}] * 17),
            behave([], stabilizationWindowSeconds=3601),
            behave([], stabilizationWindowSeconds=-1),
            behave([], selectPolicy="Most"),
            behave([], tolerance=-0.1),
            behave([], tolerance="a tenth"),
            behave([], pause=1),
        ]
    ),
    *(cluster(autoscaling={"maxReplicas": 8, "idleTimeoutSeconds": wrong}) for wrong in (0, 604801, "60", 1.5, None)),
    *(cluster(autoscaling={"maxReplicas": 8, "mode": wrong}) for wrong in ("Off", "auto", "", False)),
    cluster(idleTimeoutSeconds=60),
    cluster(status={"autoscaling": {"desiredReplicas": -1}}),
    cluster(status={"autoscaling": {"waiting": 1}}),
    *(
        job(managedBy=name)
        for name in ("", "me", "/me", "me/", "Me/me", "me/you/him", "me.example/-you", "a.b/" + "c" * 60)
    ),
]


@pytest.mark.parametrize("item", VALID)
def test_what_is_valid(item: Object) -> None:
    validator(item["kind"]).validate(item)


@pytest.mark.parametrize("item", INVALID)
def test_what_is_invalid(item: Object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validator(item["kind"]).validate(item)


def test_generated_files_match() -> None:
    found = crds.files()
    assert {path.relative_to(crds.TOP).as_posix() for path in found} == {
        f"{folder}/{name}.yaml"
        for folder in ("manifests/crds", "charts/trireme/templates/crds")
        for name in ("workerclusters", "workergroups", "workerjobs", "workercronjobs")
    }
    for path, text in found.items():
        # From where these tests are, wherever the operator is installed.
        assert (TOP / path.relative_to(crds.TOP)).read_text() == text


def test_generated_files_say_what_the_source_says() -> None:
    for path, text in crds.files().items():
        in_chart = "charts" in path.relative_to(crds.TOP).parts
        plain = text
        if in_chart:
            plain = text.removeprefix("{{- if .Values.crds.enabled }}\n").removesuffix("{{- end }}\n")
            assert text.count("{{") == 2
        item: Any = yaml.safe_load(plain)
        kept = item["metadata"].pop("annotations", {})
        assert item == CRDS[item["spec"]["names"]["kind"]]
        assert kept == ({"helm.sh/resource-policy": "keep"} if in_chart else {})
        # A chart's templates are templates.
        assert "{{" not in plain
        assert "&id" not in plain


def test_checking_and_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crds, "TOP", tmp_path)
    monkeypatch.setattr(crds, "MANIFESTS", tmp_path / "manifests")
    monkeypatch.setattr(crds, "CHART", tmp_path / "chart")

    def main(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["crds", *arguments])
        return crds.main()

    assert main("check") == 1
    assert "manifests/workerjobs.yaml is out of date" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main("write") == 0
    assert main("check") == 0
    stale = tmp_path / "chart" / "workerjobs.yaml"
    stale.write_text(stale.read_text() + "\n")
    capsys.readouterr()
    assert main("check") == 1
    assert capsys.readouterr().err == "chart/workerjobs.yaml is out of date: run `make generate`\n"
    assert [main(), main("other"), main("check", "write")] == [2, 2, 2]


def test_the_charts_kinds_are_in_order() -> None:
    kinds = [kind.kind for kind in CHART_KINDS]
    # What a pod mounts or is let in by is there when it starts.
    assert max(map(kinds.index, ("ConfigMap", "Service", "NetworkPolicy"))) < min(
        map(kinds.index, ("Deployment", "StatefulSet"))
    )
