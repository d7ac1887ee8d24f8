"""`trireme logs`: driver and workers together."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from trireme.cli.connection import Place, Reference, connection_options, names_of, reference
from trireme.cli.output import harmless
from trireme.cli.sources import duration

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")
_POLL_SECONDS = 1.0


@click.command()
@click.argument(
    "name",
    required=False,
    callback=reference("workerjobs", "workerclusters"),
    shell_complete=names_of("workerjobs", "workerclusters"),
)
@click.option(
    "-l", "--selector", metavar="LABELS", help="Instead of a name: all jobs, and clusters, that have these labels."
)
@click.option("-f", "--follow", "follow_on", is_flag=True, help="Go on, with pods that come later, too.")
@click.option(
    "--tail", type=click.IntRange(-1), metavar="N", default=-1, help="Only each pod's last N lines; all of them by -1."
)
@click.option("--since", callback=duration, metavar="DURATION", help="Only what is newer, such as 30s, 5m or 1h30m.")
@connection_options
def logs(
    place: Place, name: Reference | None, selector: str | None, follow_on: bool, tail: int, since: int | None
) -> None:
    """Print what a job or a cluster logs: driver and workers together.

    Each line begins with its pod, in a colour of its own. Following jobs ends with them.
    """
    from trireme.client.logs import Followers, containers
    from trireme.client.patience import Patience

    if (name is None) == (selector is None):
        raise click.UsageError("give either a NAME or --selector")
    kube = place.kube()
    found = _named(kube, name) if name else _selected(kube, str(selector))
    query = {
        **({} if tail < 0 else {"tailLines": str(tail)}),
        **({} if since is None else {"sinceSeconds": str(since)}),
    }
    write = printer()
    if not follow_on:
        for line in together(kube, _all_pods(kube, found), query):
            write(*line)
        return
    followers = Followers(kube, write, lambda pod, error: click.echo(f"{pod}: {error}", err=True))
    patience, told = Patience(), False
    while True:
        over, pods = False, list[dict[str, Any]]()
        with patience:
            over = all(job is not None and job.done() for _, job in found)
            pods = _all_pods(kube, found)
        if patience.error and not told:
            click.echo(f"{patience.error}: trying again", err=True)
        told = patience.error is not None
        for pod in pods:
            for container in containers(pod):
                followers.add([pod], container, query)
        if not patience.error:
            # Of what comes later, all.
            query = {}
        if over:
            followers.finish(2.0)
            return
        time.sleep(_POLL_SECONDS)  # between two looks: a watch would be one connection for each job and cluster


def _named(kube: Any, wanted: Reference) -> list[tuple[str, Any]]:
    from trireme.client.job import Job
    from trireme.client.kube import NotFound

    name, plurals = wanted.name, wanted.of("workerjobs", "workerclusters")
    for plural in plurals:
        if item := kube.find(plural, name):
            return [(name, Job(kube, item) if plural == "workerjobs" else None)]
    kinds = {"workerjobs": "job", "workerclusters": "cluster"}
    what = "neither a job nor a cluster" if len(plurals) > 1 else f"no {kinds[plurals[0]]}"
    raise NotFound(f"there is {what} {name} in namespace {kube.namespace}")


def _selected(kube: Any, selector: str) -> list[tuple[str, Any]]:
    """Return names with their jobs, None for a cluster."""
    from trireme.client.job import Job
    from trireme.client.kube import NotFound

    jobs = [Job(kube, item) for item in kube.list("workerjobs", selector)]
    clusters = [item["metadata"]["name"] for item in kube.list("workerclusters", selector)]
    if not jobs and not clusters:
        raise NotFound(f"there is neither a job nor a cluster with labels {selector} in namespace {kube.namespace}")
    return [*((job.name, job) for job in jobs), *((name, None) for name in clusters)]


def _all_pods(kube: Any, found: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    pods = {pod["metadata"]["name"]: pod for name, job in found for pod in _pods(kube, name, job)}
    return [*pods.values()]


def _pods(kube: Any, name: str, job: Any) -> list[dict[str, Any]]:
    cluster = job.item.get("status", {}).get("cluster", name) if job else name
    own = job is None or "clusterTemplate" in job.item["spec"]
    found = kube.list("pods", f"app.kubernetes.io/part-of=trireme,app.kubernetes.io/instance={cluster}")
    drivers = [pod for pod in found if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "driver"]
    others = [pod for pod in found if pod not in drivers]
    if job:
        drivers = [pod for pod in drivers if pod["metadata"]["labels"].get("trireme.dev/job") == name]
    if not own:
        # What others' work says is not this job's, but its control pod's neither: the workers alone.
        others = [pod for pod in others if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "worker"]
    return [*drivers, *others]


def together(kube: Any, pods: list[dict[str, Any]], query: dict[str, str]) -> list[tuple[str, str]]:
    """Return pods' lines in the order in which they were printed; `query` is the API's, of which of them."""
    from trireme.client.kube import NotFound
    from trireme.client.logs import Moment, containers, stamped
    from trireme.errors import TriremeError

    found: list[tuple[Moment, str, str]] = []
    for name, container in ((pod["metadata"]["name"], container) for pod in pods for container in containers(pod)):
        # A line without a timestamp stays behind the one before it.
        moment: Moment = (datetime.min.replace(tzinfo=UTC), 0)
        try:
            for line in kube.lines(name, container=container, timestamps="true", **query):
                stamp, text = stamped(line)
                moment = stamp or moment
                found.append((moment, name, text))
        except NotFound:
            # Gone since it was listed.
            continue
        except TriremeError as error:
            # One that has not begun has said nothing.
            if "waiting to start" not in str(error):
                raise
    return [(name, text) for _, name, text in sorted(found, key=lambda line: line[0])]


def printer(err: bool = False) -> Callable[[str, str], None]:
    """Return what prints lines behind their pods' names, each in a colour of its own; on standard error if `err`."""
    colours: dict[str, str] = {}
    plain = not os.isatty(2 if err else 1)

    def write(pod: str, line: str) -> None:
        colour = colours.setdefault(pod, _COLOURS[len(colours) % len(_COLOURS)])
        click.echo(f"{pod} {line}" if plain else f"{click.style(pod, fg=colour)} {harmless(line)}", err=err)

    return write
