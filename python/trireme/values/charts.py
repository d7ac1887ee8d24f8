"""The charts that come with the package, or any other chart in a folder."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trireme.errors import TriremeError
from trireme.values.places import Place
from trireme.values.reading import Value, read

NAMES = ("dask", "spark", "celery", "trireme")
"""The package's own charts."""


@dataclass(frozen=True)
class Chart:
    """A chart.

    Args:
        folder: where it is.
        defaults: its values.yaml.
        schema: its values.schema.json; None if it has none.
    """

    folder: Path
    defaults: Value
    schema: Any


def folder(name: str) -> Path:
    """Return where a chart is.

    Args:
        name: one of `NAMES`, or the path of a chart's folder.

    Raises:
        TriremeError: there is none.
    """
    if name in NAMES:
        # In the wheel beside this package; in a checkout at its top.
        places = [top / "charts" / name for top in (Path(__file__).parents[1], Path(__file__).parents[3])]
        for place in places:
            if (place / "Chart.yaml").is_file():
                return place
    if (Path(name) / "Chart.yaml").is_file():
        return Path(name)
    raise TriremeError(f"chart {name}: neither one of {', '.join(NAMES)} nor a folder with a Chart.yaml")


def load(name: str) -> Chart:
    """Read a chart's defaults and schema.

    Args:
        name: as for `folder`.

    Raises:
        TriremeError: there is no such chart, or its files can't be read.
    """
    place = folder(name)
    values = place / "values.yaml"
    shown = f"{name}/values.yaml" if name in NAMES else str(values)
    raw = values.read_bytes() if values.is_file() else b""
    schema = place / "values.schema.json"
    try:
        rules = json.loads(schema.read_text()) if schema.is_file() else None
    except ValueError as error:
        raise TriremeError(f"{schema}: not JSON: {error}") from error
    defaults = read(raw, shown).sound().values
    return Chart(place, defaults if raw else Value({}, Place(shown)), rules)


@cache
def spec_schema() -> Any:
    """Return the schema of a WorkerCluster's spec: that of the CRD which comes with the operator's chart."""
    import yaml

    text = (folder("trireme") / "templates" / "crds" / "workerclusters.yaml").read_text()
    # Around the object, the chart asks whether it is wanted.
    lines = [line for line in text.splitlines() if not line.startswith("{{")]
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    (version,) = yaml.load("\n".join(lines), loader)["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]
