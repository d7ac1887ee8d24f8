"""Manifests that `trireme run -f` is given: read within bounds, and of the shape that is used here."""

import sys
from pathlib import Path
from typing import Any

from trireme.errors import TriremeError

_MOST_WORKERS = 1000
_TEXT = {"type": "string"}
_MAP = {"type": "object"}
_TEXTS = {"type": "array", "items": _TEXT}
_TYPES = {"object": "a map", "array": "a list", "string": "text: quote it", "integer": "a whole number"}


def _map(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*required], "properties": properties}


_NAMED = _map(
    "kind",
    "metadata",
    kind=_TEXT,
    apiVersion=_TEXT,
    metadata=_map("name", name={**_TEXT, "minLength": 1}, namespace=_TEXT, annotations={"type": ["object", "null"]}),
)
_REFERENCE = _map(name=_TEXT, key=_TEXT)
_ENV = {
    "type": "array",
    "items": _map("name", name=_TEXT, value=_TEXT, valueFrom=_map(configMapKeyRef=_REFERENCE, secretKeyRef=_REFERENCE)),
}
_CODE = _map(configMap=_TEXT)
_RESOURCES = _map(limits=_MAP)
_SIZE = {"type": "integer", "minimum": 0, "maximum": _MOST_WORKERS}
_CLUSTER = _map(
    "engine",
    engine=_TEXT,
    replicas=_SIZE,
    autoscaling=_map("maxReplicas", minReplicas=_SIZE, maxReplicas=_SIZE),
    resources=_RESOURCES,
    env=_ENV,
    code=_CODE,
    dask=_map(config=_MAP),
    spark=_map(config=_MAP),
    celery=_map(app=_TEXT, queues=_TEXTS, config=_map(worker_concurrency={"type": "integer", "minimum": 1})),
)
_DRIVER = _map(script=_TEXT, command=_TEXTS, args=_TEXTS, env=_ENV, code=_CODE, resources=_RESOURCES)
# A name becomes that of a file.
_DATA = {
    "type": "object",
    "additionalProperties": _TEXT,
    "propertyNames": {"pattern": r"\A(?!\.\Z|\.\.)[-._a-zA-Z0-9]+\Z"},
}
_FILES = _map(data=_DATA, binaryData=_DATA, stringData=_DATA)
_HERE = {
    "WorkerCluster": _map("spec", spec=_CLUSTER),
    "WorkerJob": _map(
        "spec",
        spec=_map(
            "driver",
            driver=_DRIVER,
            clusterTemplate=_map("spec", spec=_CLUSTER),
            clusterRef=_map("name", name=_TEXT),
            activeDeadlineSeconds={"type": "integer", "minimum": 1},
        ),
    ),
    "ConfigMap": _FILES,
    "Secret": _FILES,
}


def read(path: str, here: bool = False) -> list[Any]:
    """Read the documents of a manifest; `-` is standard input.

    Args:
        path: of the manifest.
        here: whether it is for this machine, where no API server looks at all of it.

    Returns:
        An object for each document; None for an empty one.

    Raises:
        TriremeError: it can't be read, or has not the shape of Kubernetes objects, and where.
    """
    from trireme.values.reading import MAX_BYTES, documents

    try:
        if path == "-":
            raw = sys.stdin.buffer.read(MAX_BYTES)
        else:
            with Path(path).open("rb") as file:
                raw = file.read(MAX_BYTES)
    except OSError as error:
        raise TriremeError(f"{path}: {error.strerror}") from None
    found = documents(raw, path)
    for number, document in enumerate(found, 1):
        if document is not None:
            where = f"{path}: document {number}"
            _check(document, _NAMED, where)
            if here and document["kind"] in _HERE:
                _check(document, _HERE[document["kind"]], where)
    return found


def _check(document: Any, schema: dict[str, Any], where: str) -> None:
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(schema).iter_errors(document):
        field = error.json_path.removeprefix("$").removeprefix(".")
        place = f"{where}: {field}" if field else where
        if error.validator == "required":
            missing = next(name for name in error.validator_value if name not in error.instance)
            raise TriremeError(f"{place} has no {missing}")
        if error.validator == "type":
            raise TriremeError(f"{place} must be {_TYPES.get(str(error.validator_value), 'a map')}")
        raise TriremeError(f"{place}: {error.message[:200]}")
