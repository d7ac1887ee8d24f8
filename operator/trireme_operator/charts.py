"""Rendering of the engine charts: in process, or by the helm command."""

import json
import re
import subprocess
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

import yaml

from trireme_operator.api import CHART_KINDS, Object, share_texts

_ORDER = {kind.kind: position for position, kind in enumerate(CHART_KINDS)}
_REMEMBERED = 256
# Less than the lease is valid, because it holds up everything else.
_HELM_SECONDS = 5
# They end a line in YAML, and in no template: what is behind one in a value would be read as objects of its own.
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")


class ChartProblem(Exception):
    """The chart refuses the values; the message names the value and what it should be."""


class Renderer(Protocol):
    """A way to render a chart."""

    def render(self, chart: Path, name: str, namespace: str, values: Object) -> list[str]:
        """Return the YAML texts of a chart's templates.

        Raises:
            ChartProblem: the chart's schema or templates refuse the values.
        """


class InProcess:
    """Renders with Helm's own code as a library, in a fifth of the CPU time that the command takes."""

    def __init__(self) -> None:
        # Not at the top of the module: the library has no build for some platforms.
        import helm_python

        self._helm = helm_python
        self._charts: dict[Path, helm_python.Chart] = {}

    def render(self, chart: Path, name: str, namespace: str, values: Object) -> list[str]:
        """Return the YAML texts of a chart's templates."""
        try:
            if chart not in self._charts:
                self._charts[chart] = self._helm.Chart.load(chart)
            # Rendering checks the values against the chart's schema, too.
            rendered = self._charts[chart].render(values, name=name, namespace=namespace)
        except self._helm.HelmError as error:
            raise ChartProblem(_reason(str(error))) from error
        return [text for path, text in rendered.items() if path.endswith(".yaml")]


class HelmCommand:
    """Renders by `helm template`, the reference: a process for each chart.

    Args:
        helm: the command.
    """

    def __init__(self, helm: str) -> None:
        self._helm = helm

    def render(self, chart: Path, name: str, namespace: str, values: Object) -> list[str]:
        """Return the YAML texts of a chart's templates."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values, file)
            file.flush()
            command = [self._helm, "template", name, str(chart), f"--namespace={namespace}", f"--values={file.name}"]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=_HELM_SECONDS, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise ChartProblem(f"helm can't render: {error}") from error
        if done.returncode:
            raise ChartProblem(_reason(done.stderr))
        return re.split(r"(?m)^---\n(?=# Source: )", done.stdout)[1:]


class Charts:
    """The engine charts under a folder.

    Args:
        folder: holds one chart an engine, named as the engine.
        renderer: how they are rendered.
    """

    def __init__(self, folder: Path, renderer: Renderer) -> None:
        self._folder = folder
        self._renderer = renderer
        self._rendered: OrderedDict[str, list[Object]] = OrderedDict()
        self._schemas: dict[str, Object] = {}

    def config_schema(self, engine: str) -> Object:
        """Return the JSON schema of a chart's value `config`; empty if it has none."""
        if engine not in self._schemas:
            file = self._folder / engine / "values.schema.json"
            whole = json.loads(file.read_text()) if file.exists() else {}
            self._schemas[engine] = whole.get("properties", {}).get("config", {})
        return self._schemas[engine]

    def render(self, engine: str, name: str, namespace: str, values: Object) -> list[Object]:
        """Render a chart as `helm install NAME` would; equal calls are answered from memory.

        Args:
            engine: which chart.
            name: the release's.
            namespace: the release's.
            values: on top of the chart's own.

        Returns:
            The objects, in the order in which to apply them. Not to be changed: others get the same ones.

        Raises:
            ChartProblem: the chart's schema or templates refuse the values.
        """
        key = json.dumps([engine, name, namespace, values], sort_keys=True)
        if key in self._rendered:
            self._rendered.move_to_end(key)
            return self._rendered[key]
        objects = self._render(engine, name, namespace, values)
        self._rendered[key] = objects
        if len(self._rendered) > _REMEMBERED:
            self._rendered.popitem(last=False)
        return objects

    def _render(self, engine: str, name: str, namespace: str, values: Object) -> list[Object]:
        objects: list[Object] = []
        for text in self._renderer.render(self._folder / engine, name, namespace, values):
            if end := _LINE_ENDS.search(text):
                told = f"the character U+{ord(end[0]):04X} ends a line in YAML: leave it out"
                raise ChartProblem(f"at '{_place(values, end[0]) or ''}': {told}")
            try:
                objects += [item for item in _load(text) if item]
            except yaml.YAMLError as error:
                # Such as a control character within a value.
                raise ChartProblem(f"with these values the chart is no YAML: {error}") from error
        for item in objects:
            item["metadata"]["namespace"] = namespace
            share_texts(item)
        return sorted(objects, key=lambda item: (_ORDER.get(item["kind"], len(_ORDER)), item["metadata"]["name"]))


def _place(values: Any, character: str) -> str | None:
    """Return where in values a character is, as a JSON pointer; None if nowhere."""
    if isinstance(values, str):
        return "" if character in values else None
    entries = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in entries:
        if character in str(key):
            return f"/{key}"
        if (below := _place(value, character)) is not None:
            return f"/{key}{below}"
    return None


def _load(text: str) -> list[Any]:
    return list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _reason(message: str) -> str:
    """Cut a Helm error down to what the chart's author wrote, where it is from `fail`."""
    return re.sub(r"(?s)^.*execution error at \([^)]*\): ", "", message).strip()
