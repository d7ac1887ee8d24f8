"""Write (or check) what the Dask chart knows of Dask's configuration: keys and types, from the locked Dask itself."""

import json
import sys
from pathlib import Path
from typing import Any

import dask
import distributed
import yaml

TOP = Path(__file__).resolve().parents[1]
VALUES = TOP / "charts" / "dask" / "values.schema.json"
SOURCES = (
    Path(dask.__file__).with_name("dask-schema.yaml"),
    Path(distributed.__file__).with_name("distributed-schema.yaml"),
)


def config() -> dict[str, Any]:
    """Return the JSON schema of the chart's value `config`; keys of other libraries are left to them."""
    properties: dict[str, Any] = {}
    for source in SOURCES:
        properties |= yaml.safe_load(source.read_text())["properties"]
    return {
        "description": f"Dask configuration, as in dask.yaml; keys and types are those of Dask {dask.__version__}.",
        "type": "object",
        "properties": {name: bare(schema) for name, schema in sorted(properties.items())},
    }


def bare(schema: Any) -> Any:
    """Return a schema without its texts, which nobody reads here."""
    if isinstance(schema, list):
        return [bare(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: bare(value) for key, value in schema.items() if key not in ("description", "properties")}
    if "properties" in schema:
        found["properties"] = {name: bare(field) for name, field in schema["properties"].items()}
    return found


def main() -> int:
    """Write or check; return the exit status."""
    mode = sys.argv[1] if len(sys.argv) == 2 else ""
    if mode not in ("write", "check"):
        print("usage: dask_config.py write|check", file=sys.stderr)
        return 2
    whole = json.loads(VALUES.read_text())
    if whole["properties"]["config"] == config():
        return 0
    if mode == "write":
        whole["properties"]["config"] = config()
        VALUES.write_text(json.dumps(whole, indent=2) + "\n")
        return 0
    print(f"{VALUES.relative_to(TOP)} is out of date: run `make generate`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
