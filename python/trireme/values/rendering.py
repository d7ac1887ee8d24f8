"""What the helm command makes of a chart and values, and how two of its answers differ."""

import difflib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trireme.errors import TriremeError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SECONDS = 60
Key = tuple[str, str, str, str]
"""API version, kind, namespace, name."""
Objects = dict[Key, dict[str, Any]]


@dataclass(frozen=True)
class Release:
    """What is rendered.

    Args:
        name: the release's.
        chart: its folder.
        namespace: where; None for the kubeconfig's own.
        context: of the kubeconfig; None for the current one.
        kubeconfig: its path; None for where helm finds it.
    """

    name: str
    chart: Path
    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None


def rendered(release: Release, values: Any) -> Objects:
    """Return what `helm template` makes of values; no cluster is asked.

    Raises:
        TriremeError: there is no helm, or it refuses the values (exit code 2).
    """
    arguments = ["template", release.name, str(release.chart), "--values=-"]
    return objects(_helm(release, arguments, json.dumps(values)))


def upgraded(release: Release, values: Any) -> Objects:
    """Return what `helm upgrade` would apply to a live release; the cluster is asked and not changed.

    Raises:
        TriremeError: there is no helm or no such release, or it refuses the values (exit code 2).
    """
    arguments = ["upgrade", release.name, str(release.chart), "--values=-", "--dry-run=server", "--output=json"]
    return objects(json.loads(_helm(release, arguments, json.dumps(values)))["manifest"])


def live(release: Release) -> Objects:
    """Return what a live release consists of.

    Raises:
        TriremeError: there is no helm, or no such release (exit code 2).
    """
    return objects(_helm(release, ["get", "manifest", release.name]))


def _helm(release: Release, arguments: list[str], text: str = "") -> str:
    helm = shutil.which("helm")
    if helm is None:
        raise TriremeError("the helm command is not on PATH: install it, see https://helm.sh/docs/intro/install", 2)
    more = [f"--namespace={release.namespace}"] if release.namespace else []
    more += [f"--kube-context={release.context}"] if release.context else []
    more += [f"--kubeconfig={release.kubeconfig}"] if release.kubeconfig else []
    try:
        done = subprocess.run(
            [helm, *arguments, *more], input=text, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise TriremeError(f"helm {arguments[0]} took more than {_SECONDS} s: is the cluster there?", 2) from None
    if done.returncode:
        raise TriremeError(" ".join(done.stderr.removeprefix("Error: ").split()), 2)
    return done.stdout


def objects(text: str) -> Objects:
    """Return the objects of a manifest by their keys."""
    found: Objects = {}
    for item in yaml.load_all(text, _LOADER):
        if isinstance(item, dict) and "kind" in item:
            metadata = item.get("metadata", {})
            key = (item.get("apiVersion", ""), item["kind"], metadata.get("namespace", ""), metadata.get("name", ""))
            found[key] = item
    return found


def settled(first: Objects, again: Objects) -> Objects:
    """Return objects with what differs from one rendering to the next, such as a new password, put as `(generated)`."""
    return {key: _settled(item, again.get(key)) for key, item in first.items()}


def _settled(first: Any, again: Any) -> Any:
    if isinstance(first, dict) and isinstance(again, dict):
        return {key: _settled(value, again.get(key)) for key, value in first.items()}
    if isinstance(first, list) and isinstance(again, list) and len(first) == len(again):
        return [_settled(one, other) for one, other in zip(first, again, strict=True)]
    return first if first == again else "(generated)"


def differences(old: Objects, new: Objects) -> Iterator[str]:
    """Yield a unified diff for each object that is made, changed or deleted, as `kubectl diff` heads them.

    What Secrets hold is not shown, only whether it changes.
    """
    for key in sorted(old.keys() | new.keys(), key=lambda key: (key[1], key[2], key[3], key[0])):
        before, after = _hidden(old.get(key), new.get(key))
        if before == after:
            continue
        name = ".".join(part.replace("/", ".") for part in key if part)
        lines = difflib.unified_diff(_lines(before), _lines(after), f"old/{name}", f"new/{name}", n=3)
        yield f"diff old/{name} new/{name}\n{''.join(lines)}"


def summary(old: Objects, new: Objects) -> list[dict[str, str]]:
    """Return what happens to each object that is not as before: `create`, `update` or `delete`."""
    return [
        {
            "apiVersion": key[0],
            "kind": key[1],
            "namespace": key[2],
            "name": key[3],
            "change": "create" if key not in old else "delete" if key not in new else "update",
        }
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _lines(item: Mapping[str, Any] | None) -> list[str]:
    if item is None:
        return []
    text: str = yaml.dump(item, Dumper=_Dumper, allow_unicode=True, width=10**6)
    return text.splitlines(keepends=True)


class _Dumper(yaml.SafeDumper):
    """Shows texts of many lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _hidden(
    old: dict[str, Any] | None, new: dict[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    if "Secret" not in {item["kind"] for item in (old, new) if item}:
        return old, new

    def hide(item: dict[str, Any] | None, other: dict[str, Any] | None, word: str) -> dict[str, Any] | None:
        if item is None:
            return None
        shown = dict(item)
        for field in ("data", "stringData"):
            if isinstance(item.get(field), dict):
                there = (other or {}).get(field) or {}
                shown[field] = {
                    key: "***" if other is None or there.get(key, value) == value else f"*** ({word})"
                    for key, value in item[field].items()
                }
        return shown

    return hide(old, new, "before"), hide(new, old, "after")
