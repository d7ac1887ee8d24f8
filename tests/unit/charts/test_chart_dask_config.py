"""Dask's configuration: what is refused, what workers get beside it, and where they spill."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import distributed
import pytest
import yaml
from charting import CHARTS, NAME, Object, Render, container, environment
from helm_python import HelmRenderError, HelmValuesError

Worker = Callable[..., Object]
GI = 1024**3


def memory(**thresholds: Any) -> Object:
    return {"config": {"distributed": {"worker": {"memory": thresholds}}}}


def rendered(render: Render, values: Object) -> Object:
    found: Object = yaml.safe_load(render("dask", values)["ConfigMap", f"{NAME}-conf"]["data"]["dask.yaml"])
    return found


def spill_volume(deployment: Object) -> Object:
    (found,) = [one for one in deployment["spec"]["template"]["spec"]["volumes"] if one["name"] == "spill"]
    return {key: value for key, value in found.items() if key != "name"}


def max_spill(deployment: Object) -> Any:
    """Return what a worker reads, beside its file."""
    variables = {name: value for name, value in environment(deployment).items() if name.startswith("DASK_DISTRIBUTED")}
    return dask.config.get("distributed.worker.memory.max-spill", None, config=dask.config.collect_env(variables))


def test_what_dask_itself_has_is_valid(render: Render) -> None:
    """Its defaults all at once, which are of the same release as the schema."""
    defaults: Object = {}
    for package, name in ((dask, "dask.yaml"), (distributed, "distributed.yaml")):
        defaults |= yaml.safe_load(Path(package.__file__).with_name(name).read_text())
    # JSON has no infinity.
    del defaults["optimization"]["fuse"]["max-height"], defaults["distributed"]["adaptive"]["maximum"]
    found = rendered(render, {"config": defaults})
    assert found["distributed"]["comm"] == defaults["distributed"]["comm"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"distributed": {"worker": {"memory": {"target": 2.0}}}}, r"'/config/distributed/worker/memory/target'"),
        ({"distributed": {"worker": {"memory": {"spill": True}}}}, r"'/config/distributed/worker/memory/spill'"),
        ({"distributed": {"scheduler": {"work-stealing": "yes"}}}, r"work-stealing': got string, want boolean"),
        ({"distributed": "x"}, r"'/config/distributed': got string, want object"),
        ({"array": {"slicing": {"split-large-chunks": "often"}}}, r"'/config/array/slicing/split-large-chunks'"),
    ],
)
def test_wrong_types_are_refused(render: Render, config: Object, message: str) -> None:
    with pytest.raises(HelmValuesError, match=message):
        render("dask", {"config": config})


def test_other_libraries_keep_their_keys(render: Render) -> None:
    config = {"mine": {"a": 1}, "distributed": {"worker": {"of-tomorrow": [1]}}}
    found = rendered(render, {"config": config})
    assert found["mine"] == {"a": 1}
    assert found["distributed"]["worker"]["of-tomorrow"] == [1]


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"target": 0.75}, r"memory\.spill is 0\.7, below target, 0\.75: they must rise"),
        ({"spill": 0.5}, r"memory\.spill is 0\.5, below target, 0\.6"),
        ({"pause": 0.65}, r"memory\.pause is 0\.65, below spill, 0\.7"),
        ({"terminate": 0.5}, r"memory\.terminate is 0\.5, below pause, 0\.8"),
        ({"spill": False, "pause": False, "target": 0.9, "terminate": 0.8}, r"terminate is 0\.8, below target, 0\.9"),
    ],
)
def test_thresholds_must_rise(render: Render, thresholds: Object, message: str) -> None:
    with pytest.raises(HelmRenderError, match=message):
        render("dask", memory(**thresholds))


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ({}, {"terminate": False}),
        ({"target": 0.3, "spill": 0.4}, {"target": 0.3, "spill": 0.4, "terminate": False}),
        ({"target": 0.8, "spill": 0.8, "pause": 0.8, "terminate": 1}, None),
        ({"target": False, "spill": False, "pause": False}, None),
        ({"spill": 1, "pause": 1}, None),
    ],
)
def test_thresholds(render: Render, thresholds: Object, expected: Object | None) -> None:
    found = rendered(render, memory(**thresholds))["distributed"]["worker"]["memory"]
    assert found == (expected or {"terminate": False, **thresholds})


@pytest.mark.parametrize(
    ("spill", "volume", "most"),
    [
        ({}, {"emptyDir": {}}, None),
        ({"size": "2Gi"}, {"emptyDir": {"sizeLimit": "2Gi"}}, 2 * GI * 9 // 10),
        ({"size": 1000}, {"emptyDir": {"sizeLimit": 1000}}, 900),
        (
            {"size": "10Gi", "storageClassName": "fast"},
            {
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "storageClassName": "fast",
                            "resources": {"requests": {"storage": "10Gi"}},
                        }
                    }
                }
            },
            9 * GI,
        ),
    ],
)
def test_where_workers_spill(render: Render, worker: Worker, spill: Object, volume: Object, most: int | None) -> None:
    deployment = worker("dask", {"spill": spill})
    assert spill_volume(deployment) == volume
    mounts = {mount["name"]: mount["mountPath"] for mount in container(deployment)["volumeMounts"]}
    assert f"--local-directory={mounts['spill']}" in container(deployment)["command"]
    assert max_spill(deployment) == most
    capacity = json.loads(deployment["metadata"]["annotations"]["trireme.dev/capacity"])
    assert capacity.get("spill") == (str(most) if most else None)


@pytest.mark.parametrize("key", ["max-spill", "max_spill"])
def test_a_limit_of_ones_own(render: Render, worker: Worker, key: str) -> None:
    own = {**memory(**{key: "1 GB"}), "spill": {"size": "20Gi"}}
    assert rendered(render, own)["distributed"]["worker"]["memory"][key] == "1 GB"
    assert max_spill(worker("dask", own)) is None


def test_a_volume_of_another_size_starts_no_scheduler_anew(render: Render) -> None:
    before, after = (
        render("dask", {"spill": {"size": size}})["Deployment", f"{NAME}-scheduler"] for size in ("1Gi", "2Gi")
    )
    assert before == after


def test_a_claim_needs_a_size(render: Render) -> None:
    with pytest.raises(HelmRenderError, match=r"spill\.size: a claim needs a size"):
        render("dask", {"spill": {"storageClassName": "fast"}})


@pytest.mark.parametrize(
    ("spill", "message"),
    [
        ({"size": "big"}, r"'/spill/size'"),
        ({"size": 0}, r"'/spill/size'"),
        ({"medium": "Memory"}, r"'/spill': additional properties 'medium' not allowed"),
        ({"size": "1Gi", "storageClassName": "Not One"}, r"'/spill/storageClassName'"),
    ],
)
def test_what_is_no_volume(render: Render, spill: Object, message: str) -> None:
    with pytest.raises(HelmValuesError, match=message):
        render("dask", {"spill": spill})


def test_the_schema_says_of_which_dask_it_is() -> None:
    schema = json.loads((CHARTS / "dask" / "values.schema.json").read_text())
    assert f"Dask {dask.__version__}." in schema["properties"]["config"]["description"]
