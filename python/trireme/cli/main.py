"""The command `trireme`, also `kubectl trireme`."""

import sys
from pathlib import Path
from typing import Any

import click

from trireme.cli.connection import place_options
from trireme.cli.lazy import LazyGroup
from trireme.errors import TriremeError

# Each command's line here is the first of its own help (tests hold them together).
COMMANDS = {
    "run": ("trireme.cli.run:run", "Run a script, or a manifest's WorkerJob."),
    "logs": ("trireme.cli.logs:logs", "Print what a job or a cluster logs: driver and workers together."),
    "top": ("trireme.cli.top:top", "Show clusters' workers, memory and work."),
    "ui": ("trireme.cli.connect:ui", "Open a cluster's dashboard."),
    "connect": ("trireme.cli.connect:connect", "Run a command, or print the variables, that find a cluster's engine."),
    "shell": ("trireme.cli.connect:shell", "Open a Python prompt that is connected to a cluster."),
    "doctor": ("trireme.cli.doctor:doctor", "Tell what is wrong with a cluster, the installation or an object."),
    "values": ("trireme.cli.values:values", "Show, check, edit and compare Helm values."),
    "completion": ("trireme.cli.completion:completion", "Print a shell's completion script."),
}
# What kubectl does well with our kinds stays kubectl's.
_KUBECTLS = ("get", "describe", "scale", "delete", "wait", "apply", "edit", "patch", "label", "annotate", "events")


def _say_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        # Takes as long to import as all the rest.
        from importlib.metadata import version

        click.echo(f"trireme {version('trireme')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    elsewhere=dict.fromkeys(_KUBECTLS, "kubectl"),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_say_version, help="Print the version."
)
@place_options
def trireme(**_: object) -> None:
    """Dask, Spark and Celery on Kubernetes or a laptop."""


def main(args: list[str] | None = None) -> None:
    """Run the command line, and exit: 0 well, 1 a problem, 2 a wrong call, 130 interrupted."""
    name = "kubectl trireme" if Path(sys.argv[0]).name.startswith("kubectl-") else "trireme"
    sys.exit(run(args, prog_name=name))


def run(args: list[str] | None = None, prog_name: str = "trireme") -> int:
    """Run the command line.

    Args:
        args: those after the command's name; the process's own if None.
        prog_name: how the command calls itself.

    Returns:
        The exit code.
    """
    try:
        done: Any = trireme.main(args, prog_name=prog_name, standalone_mode=False)
    except TriremeError as error:
        click.echo(f"error: {error}", err=True)
        return error.code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    return done if isinstance(done, int) else 0
