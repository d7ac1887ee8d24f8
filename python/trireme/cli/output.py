"""What is printed for programs, and what programs have printed."""

import json
import re
from typing import Any

import click

# Colours; any other sequence that a terminal obeys, to its end; what is left of one, and single control characters.
_CONTROL = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]*m)"
    r"|\x1b\[[0-?]*[ -/]*[@-~]"
    r"|(\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]).*?(\x07|\x1b\\|\x9c|$)"
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)


def harmless(line: str) -> str:
    """Return a line of a log as a terminal would show it, with its colours, and without what else it would obey.

    Whoever reads the logs of others' programs lets them neither write to the clipboard nor hide other lines.
    """
    # What is written over, such as a bar of progress, is not seen.
    shown = line.rstrip("\r").rpartition("\r")[2]
    kept = _CONTROL.sub(lambda found: found["colour"] or "", shown)
    return f"{kept}\x1b[0m" if "\x1b" in kept else kept


def write(data: Any, output: str) -> None:
    """Print something as `json` or `yaml`."""
    click.echo(as_text(data, output))


def as_text(data: Any, output: str) -> str:
    """Return something as `json` or `yaml`, without the last newline."""
    if output == "json":
        return json.dumps(data, indent=2)
    import yaml

    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip()
