"""`trireme run`: a script or a manifest, on a cluster or on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from trireme.cli import manifests, sources
from trireme.cli.connection import Place, cluster_name, connection_options, names_of
from trireme.client.objects import job_name

ENGINES = ("dask", "spark", "celery")
_INTERRUPTED = 130
_OF_SCRIPTS = (
    *("engine", "workers", "cpu", "memory", "borrowed", "app", "image"),
    *("driver_cpu", "driver_memory", "env", "files", "requirements", "name", "labels", "timeout"),
)
_OF_CLUSTERS = (
    *("borrowed", "image", "driver_cpu", "files", "labels", "worker_logs", "detach", "dry_run", "output"),
    *("namespace", "context", "kubeconfig"),
)


@dataclass(frozen=True)
class Wanted:
    """What `run` is asked to do with a script.

    Args:
        script: the program.
        args: its arguments.
        name: of the job.
        named: whether the user chose that.
        borrowed: the cluster that it borrows.
        cluster: spec of its own cluster.
        driver: spec of its driver, as far as options say.
        files: further files that go along.
        requirements: packages that are installed for it.
        labels: of the job.
    """

    script: Path
    args: tuple[str, ...]
    name: str
    named: bool
    borrowed: str | None
    cluster: dict[str, Any]
    driver: dict[str, Any]
    files: tuple[Path, ...]
    requirements: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


def _files(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Have a shell complete the name of a file."""
    return [CompletionItem(begun, type="file")]


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("words", nargs=-1, metavar="[SCRIPT] [-- ARGS...]", shell_complete=_files)
@click.option(
    "-f",
    "--filename",
    metavar="FILE",
    shell_complete=_files,
    help="Run the WorkerJob of a manifest instead of a script; - is standard input.",
)
@click.option("--local", is_flag=True, help="Run on this machine, without Kubernetes.")
@click.option("--engine", type=click.Choice(ENGINES), help="What the workers run.")
@click.option(
    "--workers",
    metavar="N|A..B",
    default=None,
    help="Workers; a range lets the cluster grow and shrink.  [default: 1..4]",
)
@click.option("--cpu", help="CPU limit of a worker.  [default: 1]")
@click.option("--memory", help="Memory limit of a worker.  [default: 2Gi]")
@click.option(
    "--cluster",
    "borrowed",
    metavar="NAME",
    callback=cluster_name,
    shell_complete=names_of("workerclusters"),
    help="Use this WorkerCluster instead of one of the job's own.",
)
@click.option("--app", help="The Celery application, as for `celery -A`.")
@click.option("--image", help="Image of the workers and the driver.")
@click.option("--driver-cpu", default="1", show_default=True, help="CPU limit of the driver.")
@click.option("--driver-memory", default="1Gi", show_default=True, help="Memory limit of the driver.")
@click.option("--env", metavar="NAME=VALUE", multiple=True, help="A variable for driver and workers.")
@click.option(
    "--file", "files", type=click.Path(path_type=Path), multiple=True, help="A file that goes along with the script."
)
@click.option(
    "--requirement",
    "requirements",
    metavar="PACKAGE|FILE.txt",
    multiple=True,
    help="A package for driver and workers, as pip takes it, or a file that lists some; installed when they start.",
)
@click.option("--name", help="Name of the job; the script's if left out.")
@click.option("-l", "--labels", metavar="KEY=VALUE,...", default="", help="Labels of the job.")
@click.option("--worker-logs", is_flag=True, help="Print what the workers log, too, on standard error.")
@click.option(
    "--timeout", callback=sources.seconds, metavar="DURATION", help="How long the driver may take, such as 600 or 10m."
)
@click.option("--detach", is_flag=True, help="Print the job's name, and do not wait for it.")
@click.option(
    "--dry-run", type=click.Choice(["none", "client", "server"]), default="none", help="Print what would be created."
)
@click.option("-o", "--output", type=click.Choice(["json", "yaml", "name"]), help="How to print what was created.")
@connection_options
def run(
    place: Place,
    words: tuple[str, ...],
    filename: str | None,
    local: bool,
    detach: bool,
    dry_run: str,
    output: str | None,
    **options: Any,
) -> int:
    """Run a script, or a manifest's WorkerJob.

    The script, the modules beside it that it imports and --file go along. What it prints is printed here, and its exit
    code is this command's. Ctrl-C stops it, and nothing stays behind.
    """
    if filename:
        if words:
            raise click.UsageError("--filename goes with no script")
        _refuse(_OF_SCRIPTS, "--filename: the manifest says it")
    elif not words:
        raise click.UsageError("name a script, or a manifest by --filename")
    if local:
        _refuse(_OF_CLUSTERS, "--local: it is for Kubernetes")
        return _locally(words, filename, options)
    from trireme.cli import submit

    after = submit.After(detach, dry_run, output, options["worker_logs"])
    if filename:
        return submit.manifest(place, filename, after)
    return submit.script(place, wanted(words, options), options["timeout"], after)


def _refuse(names: tuple[str, ...], why: str) -> None:
    """Refuse options that would be ignored."""
    context: click.Context | None = click.get_current_context()
    while context:
        for option in context.command.params:
            if option.name in names and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"{max(option.opts, key=len)} does not go with {why}")
        context = context.parent


def wanted(words: tuple[str, ...], options: dict[str, Any]) -> Wanted:
    """Read the options of a script's run.

    Raises:
        TriremeError, click.UsageError: something does not go together.
    """
    script = Path(words[0])
    sources.script(script)
    env = sources.assignments(options["env"])
    requirements = sources.requirements(options["requirements"])
    if requirements and options["borrowed"]:
        raise click.UsageError(
            "--requirement is for a cluster of the job's own: the workers of one that is there run already:"
            " give that cluster an image that has the packages"
        )
    variables = [{"name": name, "value": value} for name, value in env.items()]
    driver = {
        "resources": driver_resources(options["driver_cpu"], options["driver_memory"]),
        **({"env": variables} if variables else {}),
        **({"image": options["image"]} if options["image"] and options["borrowed"] else {}),
    }
    cluster: dict[str, Any] = {}
    if options["borrowed"]:
        for name in ("engine", "workers", "cpu", "memory", "app"):
            if options[name]:
                raise click.UsageError(
                    f"--{name} is for a cluster of the job's own, and --cluster names one that is there"
                )
    else:
        cluster = _cluster(options, variables)
    return Wanted(
        script=script,
        args=words[1:],
        name=options["name"] or job_name(script),
        named=bool(options["name"]),
        borrowed=options["borrowed"],
        cluster=cluster,
        driver=driver,
        files=options["files"],
        requirements=requirements,
        labels=sources.labels(options["labels"]),
    )


def _cluster(options: dict[str, Any], variables: list[dict[str, str]]) -> dict[str, Any]:
    if not options["engine"]:
        raise click.UsageError("--engine is missing: dask, spark or celery")
    if options["engine"] == "celery" and not options["app"]:
        raise click.UsageError("--app is missing: the Celery application, as for `celery -A`")
    if options["engine"] != "celery" and options["app"]:
        raise click.UsageError("--app is for celery only")
    least, most = sources.workers(options["workers"] or "1..4")
    return {
        "engine": options["engine"],
        **({"image": options["image"]} if options["image"] else {}),
        **({"replicas": least} if most is None else {"autoscaling": {"minReplicas": least, "maxReplicas": most}}),
        "resources": {"limits": {"cpu": options["cpu"] or "1", "memory": options["memory"] or "2Gi"}},
        **({"env": variables} if variables else {}),
        **({"celery": {"app": options["app"]}} if options["app"] else {}),
    }


def driver_resources(cpu: str, memory: str) -> dict[str, Any]:
    """Return a driver's limits; it waits for workers most of the time, so it requests little CPU."""
    return {"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": "100m"}}


def _locally(words: tuple[str, ...], filename: str | None, options: dict[str, Any]) -> int:
    from trireme.local.run import run as run_here
    from trireme.local.work import Manifest, Work

    def say(line: str) -> None:
        click.echo(click.style(line, dim=True), err=True)

    if filename:
        largest = 0
        for work in Manifest(manifests.read(filename, here=True), filename).jobs():
            code = run_here(work, say)
            if code == _INTERRUPTED:
                return code
            largest = max(largest, code)
        return largest
    asked = wanted(words, options)
    env = sources.assignments(options["env"])
    work = Work(
        name=asked.name,
        cluster=asked.cluster,
        args=asked.args,
        env=env,
        worker_env=env,
        driver_memory=options["driver_memory"],
        deadline=options["timeout"],
        script=asked.script.resolve(),
        requirements=asked.requirements,
    )
    return run_here(work, say)
