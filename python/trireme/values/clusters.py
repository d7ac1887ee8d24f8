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
from trireme.values import charts
from trireme.values.editing import scalar
from trireme.values.reading import plain, read

API_VERSION = "trireme.dev/v1alpha1"
KIND = "WorkerCluster"
ENGINES = ("dask", "spark", "celery")

_COPIED = ("image", "resources", "drainSeconds", "code", "env", "volumes", "volumeMounts", "placement")
"""Fields of the spec that are values of the same name in every chart."""
_MARK = "# trireme: "
_MARKED = re.compile(rf"(?m)^{_MARK}(\{{.*\}})$")
_OF_THE_SERVER = (
    "creationTimestamp", "generation", "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
)  # fmt: skip
# What kubectl and the operator remember of what they applied.
_REMEMBERED = ("kubectl.kubernetes.io/last-applied-configuration", "trireme.dev/applied")
_MOUNTED = ("volumes", "volumeMounts")
_PLACED_BY = {"nodeLabels", "podLabels", "spread"}
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
    fields = charts.spec_schema()["properties"]
    mounted = all(_fits(name, left[name], fields) for name in _MOUNTED if name in left)
    for name in _COPIED:
        # A mount needs its volume beside it.
        if name in left and (mounted if name in _MOUNTED else _fits(name, left[name], fields)):
            spec[name] = left.pop(name)
    own, left = _parted(left, fields[engine], _incoherent(left, engine))
    if own:
        spec[engine] = own
    if left:
        spec["values"] = left
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": dict(metadata), "spec": spec}


def _fits(name: str, value: Any, fields: Mapping[str, Any]) -> bool:
    """Tell whether a field of the spec takes a value that its chart takes; spec.values takes the rest."""
    if not takes(fields[name], value):
        return False
    # Rules of the CRD that are no schema.
    if name == "volumes":
        names = [item["name"] for item in value]
        return not _RESERVED & {*names} and len(names) == len({*names})
    return name != "placement" or bool(_PLACED_BY & value.keys())


def _incoherent(values: Mapping[str, Any], engine: str) -> set[tuple[str, ...]]:
    """Return fields of an engine's block that the CRD's rules refuse beside, or without, others."""
    if engine == "spark":
        return set() if values.get("mode") == "connect" else {("connect",)}
    broker = values.get("broker")
    if engine != "celery" or not isinstance(broker, dict):
        return set()
    return {("broker", "type")} if broker.get("existingSecret") else {("broker", "tls")}


def _parted(
    values: dict[str, Any], schema: Mapping[str, Any], besides: set[tuple[str, ...]], path: tuple[str, ...] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part values into what the fields of a schema take, and the rest; together they are what they were.

    Args:
        values: of a chart.
        schema: of an object with fields.
        besides: paths of fields that take nothing.
        path: of the object.
    """
    own: dict[str, Any] = {}
    rest = dict(values)
    for name, below in schema["properties"].items():
        here = (*path, name)
        if name not in rest or here in besides:
            continue
        value = rest[name]
        if isinstance(value, dict) and value and "properties" in below:
            taken, kept_back = _parted(value, below, besides, here)
            if not taken or not {*below.get("required", ())} <= taken.keys():
                continue
            own[name] = taken
            if kept_back:
                rest[name] = kept_back
            else:
                del rest[name]
        elif takes(below, value):
            own[name] = rest.pop(name)
    return own, rest


def takes(schema: Mapping[str, Any], value: Any) -> bool:
    """Tell whether an API server takes a value by a CRD's schema, but for its rules in CEL."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    whole = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, number: isinstance(number, int) and not isinstance(number, bool)
    )
    validator = extend(Draft202012Validator, type_checker=whole)  # type: ignore[no-untyped-call]
    return bool(validator(_closed(schema)).is_valid(value)) and _keyed(schema, value)


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a structural schema in which an object has no other fields than those that are named."""
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            found[key] = {name: _closed(below) for name, below in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            found[key] = _closed(value)
        elif key == "pattern" and value.endswith("$"):
            # Python's would let a newline follow.
            found[key] = value[:-1] + r"\Z"
        else:
            found[key] = value
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


def _keyed(schema: Mapping[str, Any], value: Any) -> bool:
    """Tell whether the items of a list are told apart by the keys that its schema names."""
    keys = schema.get("x-kubernetes-list-map-keys")
    if not keys:
        return True
    names = [tuple(item.get(key) for key in keys) for item in value]
    return len(names) == len({*names})


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
