"""Rendering of the engine charts, in process."""

import json
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import helm_python
import yaml
from helm_python import Chart, HelmError

from trireme_operator.api import CHART_KINDS, Object

_ORDER = {kind.kind: position for position, kind in enumerate(CHART_KINDS)}
_REMEMBERED = 256


class ChartProblem(Exception):
    """The chart refuses the values; the message names the value and what it should be."""


class Charts:
    """The engine charts under a folder.

    Args:
        folder: holds one chart an engine, named as the engine.
    """

    def __init__(self, folder: Path) -> None:
        # Helm would tell of symbolic links within charts, in a format of its own.
        helm_python.disable_logging()
        self._folder = folder
        self._charts: dict[str, Chart] = {}
        self._rendered: OrderedDict[str, list[Object]] = OrderedDict()

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
        try:
            if engine not in self._charts:
                self._charts[engine] = Chart.load(self._folder / engine)
            chart = self._charts[engine]
            chart.validate_schema(values)
            rendered = chart.render(values, name=name, namespace=namespace)
        except HelmError as error:
            raise ChartProblem(_reason(str(error))) from error
        objects: list[Object] = []
        for path, text in rendered.items():
            if path.endswith(".yaml"):
                objects += [item for item in _load(text) if item]
        for item in objects:
            item["metadata"]["namespace"] = namespace
        return sorted(objects, key=lambda item: (_ORDER.get(item["kind"], len(_ORDER)), item["metadata"]["name"]))


def _load(text: str) -> list[Any]:
    return list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _reason(message: str) -> str:
    """Cut a Helm error down to what the chart's author wrote, where it is from `fail`."""
    return re.sub(r"(?s)^.*execution error at \([^)]*\): ", "", message).strip()
