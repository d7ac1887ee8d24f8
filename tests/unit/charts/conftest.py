from collections.abc import Callable

import helm_python
import pytest
import yaml
from charting import CHARTS, ENGINES, NAME, NAMESPACE, Object, Render, Rendered
from helm_python import Chart


@pytest.fixture(scope="session")
def charts() -> dict[str, Chart]:
    helm_python.disable_logging()
    return {engine: Chart.load(CHARTS / engine) for engine in ENGINES}


@pytest.fixture(scope="session")
def render(charts: dict[str, Chart]) -> Render:
    """Render a chart; returns its objects by kind and name."""

    def render(engine: str, values: Object | None = None, name: str = NAME) -> Rendered:
        files = charts[engine].render(values or {}, name=name, namespace=NAMESPACE)
        texts = [text for path, text in files.items() if path.endswith(".yaml")]
        objects = [item for text in texts for item in yaml.load_all(text, yaml.CSafeLoader) if item]
        found = {(item["kind"], item["metadata"]["name"]): item for item in objects}
        assert len(found) == len(objects)
        return found

    return render


@pytest.fixture(scope="session")
def worker(render: Render) -> Callable[..., Object]:
    """Render a chart; returns the Deployment of the workers."""
    return lambda engine, values=None: render(engine, values)["Deployment", f"{NAME}-worker"]
