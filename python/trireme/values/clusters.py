"""A WorkerCluster as a values file that `helm install` takes, and back.

What no value of the chart says (metadata, autoscaling, suspend) goes into a comment at the head of the file.
"""

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import yaml

from trireme.errors import TriremeError
from trireme.values.editing import scalar
from trireme.values.reading import plain, read

API_VERSION = "trireme.dev/v1alpha1"
KIND = "WorkerCluster"
ENGINES = ("dask", "spark", "celery")

_COPIED = ("image", "resources", "drainSeconds", "code", "env", "volumes", "volumeMounts", "placement")
"""Fields of the spec that are values of the same name in every chart."""
_CONTROL = {"dask": "scheduler", "spark": "master", "celery": "broker"}
_OWN: dict[str, tuple[str, ...]] = {
    "dask": ("nworkers", "nthreads", "workerResources", "config"),
    "spark": ("config",),
    "celery": ("app", "queues", "config", "pool"),
}
_MARK = "# trireme: "
_MARKED = re.compile(rf"(?m)^{_MARK}(\{{.*\}})$")
_OF_THE_SERVER = (
    "creationTimestamp", "generation", "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
)  # fmt: skip
# What kubectl and the operator remember of what they applied.
_REMEMBERED = ("kubectl.kubernetes.io/last-applied-configuration", "trireme.dev/applied")
_MAX_DRAIN_SECONDS = 86400
_MOUNTED = ("volumes", "volumeMounts")
_SOURCES = {
    "persistentVolumeClaim", "configMap", "secret", "emptyDir", "ephemeral", "projected", "downwardAPI", "csi",
}  # fmt: skip
# The charts' own.
_RESERVED = {"tmp", "scripts", "conf", "code", "script", "spill", "broker-tls", "events", "beat"}
_MAX_REPLICAS = 1000


def to_values(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chart values that a WorkerCluster stands for, as the operator would; spec.values goes last.

    Left out is what the operator adds to the chart by itself: the Secret of Celery's broker, which the chart then makes
    under the same name, and the monitor that tells it how much work waits.

    Raises:
        TriremeError: it is no WorkerCluster, or one that the operator refuses.
    """
    spec = _spec(cluster)
    found: dict[str, Any] = {name: deepcopy(spec[name]) for name in _COPIED if name in spec}
    found["replicas"] = 0 if spec.get("suspend") else int(spec.get("replicas", 1))
    _overlay(found, spec.get(spec["engine"], {}))
    _overlay(found, spec.get("values", {}))
    return found


def _spec(cluster: Mapping[str, Any]) -> Mapping[str, Any]:
    if cluster.get("kind") != KIND or not str(cluster.get("apiVersion", "")).startswith("trireme.dev/"):
        raise TriremeError(f"{cluster.get('kind', 'this')} is no {KIND} of {API_VERSION}")
    spec: Mapping[str, Any] = cluster.get("spec", {})
    if spec.get("engine") not in ENGINES:
        raise TriremeError(f"spec.engine: must be one of {', '.join(ENGINES)}")
    if "replicas" in spec.get("values", {}):
        raise TriremeError("spec.values.replicas: set spec.replicas instead, the one size of a cluster")
    return spec


def _overlay(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _overlay(below[key], value)
        else:
            below[key] = deepcopy(value)


def to_file(cluster: Mapping[str, Any]) -> str:
    """Return a values file for a WorkerCluster: what the chart takes, and at its head what it has no word for.

    Raises:
        TriremeError: it is no WorkerCluster, or one that the operator refuses.
    """
    values, spec = to_values(cluster), _spec(cluster)
    metadata = {key: value for key, value in cluster.get("metadata", {}).items() if key not in _OF_THE_SERVER}
    if annotations := {key: text for key, text in metadata.pop("annotations", {}).items() if key not in _REMEMBERED}:
        metadata["annotations"] = annotations
    ours = {"engine", "replicas", "values", spec["engine"], *_COPIED}
    kept = {key: value for key, value in spec.items() if key not in ours}
    if spec.get("suspend") and "replicas" in spec:
        kept["replicas"] = spec["replicas"]
    name, namespace = metadata.get("name", "NAME"), metadata.get("namespace")
    where = f" --namespace {namespace}" if namespace else ""
    rest = json.dumps({"engine": spec["engine"], "metadata": metadata, "spec": kept}, sort_keys=True)
    text = yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return (
        f"# {KIND} {name}: helm install {name} charts/{spec['engine']}{where} --values FILE\n"
        "# The next line is what the chart has no value for; `trireme values to-cluster` reads it.\n"
        f"{_MARK}{rest}\n{text}"
    )


class Dumper(yaml.SafeDumper):
    """Writes values; quotes text that Helm would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never write an alias."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if scalar(text) == text else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, _text)


def kept(text: str) -> dict[str, Any]:
    """Return what a values file's head keeps of a WorkerCluster: engine, metadata and a part of the spec.

    Raises:
        TriremeError: the line was changed, and can't be read.
    """
    found = _MARKED.search(text)
    if not found:
        return {"metadata": {}, "spec": {}}
    try:
        rest = json.loads(found[1])
        return {"engine": rest["engine"], "metadata": dict(rest["metadata"]), "spec": dict(rest["spec"])}
    except (ValueError, KeyError, TypeError):
        raise TriremeError(
            f"the line `{_MARK.strip()} ...` can't be read: take it out, or make the file again"
        ) from None


def to_cluster(
    values: Mapping[str, Any], engine: str, metadata: Mapping[str, Any], rest: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the WorkerCluster that stands for a chart's values.

    Args:
        values: the user's, without the chart's defaults.
        engine: dask, spark or celery.
        metadata: the cluster's; at least its name.
        rest: fields of the spec that no value says, as from `kept`.
    """
    left = deepcopy(dict(values))
    spec: dict[str, Any] = {"engine": engine, **deepcopy(dict(rest or {}))}
    replicas = left.pop("replicas", None)
    if replicas is not None and not (spec.get("suspend") and replicas == 0):
        if not isinstance(replicas, int) or isinstance(replicas, bool) or not 0 <= replicas <= _MAX_REPLICAS:
            raise TriremeError(f"replicas: a {KIND} takes a whole number from 0 to {_MAX_REPLICAS}")
        spec["replicas"] = replicas
    elif replicas is None:
        # The charts' default is another one than a WorkerCluster's.
        spec.setdefault("replicas", 2)
    mounted = all(_fits(name, left[name]) for name in _MOUNTED if name in left)
    for name in _COPIED:
        # A mount needs its volume beside it.
        if name in left and (mounted if name in _MOUNTED else _fits(name, left[name])):
            spec[name] = left.pop(name)
    if own := _own(left, engine):
        spec[engine] = own
    if left:
        spec["values"] = left
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": dict(metadata), "spec": spec}


def _own(left: dict[str, Any], engine: str) -> dict[str, Any]:
    """Take out of the values what the engine's block of the spec has fields for."""
    own: dict[str, Any] = {}
    for name in _OWN[engine]:
        if name in left and _fits(f"{engine}.{name}", left[name]):
            own[name] = left.pop(name)
    control = left.get(_CONTROL[engine])
    if isinstance(control, dict) and _fits("resources", control.get("resources")):
        own[_CONTROL[engine]] = {"resources": control.pop("resources")}
        if not control:
            del left[_CONTROL[engine]]
    return own


def _fits(field: str, value: Any) -> bool:
    """Tell whether a field of the spec takes a value that its chart takes; spec.values takes the rest."""
    match field:
        case "image" | "celery.app":
            return isinstance(value, str) and value != ""
        case "drainSeconds":
            return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_DRAIN_SECONDS
        case "resources":
            return (
                isinstance(value, dict)
                and value.keys() <= {"limits", "requests"}
                and all(isinstance(each, dict) for each in value.values())
                and all(isinstance(amount, str | int) and not isinstance(amount, bool)
                        for each in value.values() for amount in each.values())
            )  # fmt: skip
        case "code":
            return isinstance(value, dict) and value.keys() <= {"configMap"} and bool(value.get("configMap"))
        case "env":
            return isinstance(value, list) and all(
                isinstance(item, dict) and "name" in item and item.keys() <= {"name", "value", "valueFrom"}
                for item in value
            )
        case "volumes":
            return isinstance(value, list) and all(
                isinstance(item, dict) and item.get("name") not in _RESERVED and item.keys() <= {"name", *_SOURCES}
                for item in value
            )
        case "volumeMounts":
            fields = {"name", "mountPath", "subPath", "readOnly"}
            return isinstance(value, list) and all(isinstance(item, dict) and item.keys() <= fields for item in value)
        case "placement":
            return (
                isinstance(value, dict)
                and value.keys() <= {"mode", "nodeLabels", "podLabels", "spread"}
                and value.get("mode", "Preferred") in ("Preferred", "Required")
                and value.get("spread", "Nodes") in ("Nodes", "Zones")
            )
        case "dask.nworkers" | "dask.nthreads":
            # The charts' 0 is what a spec leaves out.
            most = 32 if field == "dask.nworkers" else 1024
            return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
        case "celery.pool":
            return value in ("prefork", "threads")
        case "celery.queues":
            return isinstance(value, list) and all(isinstance(item, str) and item for item in value)
        case "dask.workerResources":
            return isinstance(value, dict) and all(
                isinstance(amount, int | float) and not isinstance(amount, bool) for amount in value.values()
            )
        case "spark.config":
            return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    return isinstance(value, dict)


def manifests(raw: bytes, name: str) -> list[dict[str, Any]]:
    """Return the objects of a manifest.

    Raises:
        TriremeError: it is no YAML, or too large.
    """
    # Each with as many empty lines before as there are, so that places are the file's.
    found, line = [], 0
    for part in re.split(rb"(?m)^---[ \t]*\r?$", raw):
        found.append(plain(read(b"\n" * line + part, name).sound().values))
        line += part.count(b"\n")
    return [below for item in found for below in (item["items"] if item.get("kind") == "List" else [item])]
