"""What is printed for programs."""

import json
from typing import Any

import click


def write(data: Any, output: str) -> None:
    """Print something as `json` or `yaml`."""
    click.echo(as_text(data, output))


def as_text(data: Any, output: str) -> str:
    """Return something as `json` or `yaml`, without the last newline."""
    if output == "json":
        return json.dumps(data, indent=2)
    import yaml

    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip()
