"""`trireme logs`: driver and workers together."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from trireme.cli.connection import Place, connection_options, names_of

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")
_POLL_SECONDS = 1.0


@click.command()
@click.argument("name", shell_complete=names_of("workerjobs", "workerclusters"))
@click.option("-f", "--follow", "follow_on", is_flag=True, help="Go on, with pods that come later, too.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only each pod's last N lines.")
@connection_options
def logs(place: Place, name: str, follow_on: bool, tail: int | None) -> None:
    """Print what a job or a cluster logs: driver and workers together.

    Each line begins with its pod, in a colour of its own. Following a job ends with it.
    """
    from trireme.client.job import Job
    from trireme.client.kube import NotFound
    from trireme.client.logs import Followers
    from trireme.client.patience import Patience

    kube = place.kube()
    item = kube.find("workerjobs", name)
    job = Job(kube, item) if item else None
    if job is None and kube.find("workerclusters", name) is None:
        raise NotFound(f"there is neither a job nor a cluster {name} in namespace {kube.namespace}")
    write = _printer()
    if not follow_on:
        for line in together(kube, _pods(kube, name, job), tail):
            write(*line)
        return
    followers = Followers(kube, write, lambda pod, error: click.echo(f"{pod}: {error}", err=True))
    patience, told = Patience(), False
    while True:
        over, pods = False, list[dict[str, Any]]()
        with patience:
            over, pods = job is not None and job.done(), _pods(kube, name, job)
        if patience.error and not told:
            click.echo(f"{patience.error}: trying again", err=True)
        told = patience.error is not None
        for pod in pods:
            followers.add([pod], container(pod))
        if over:
            followers.finish(2.0)
            return
        time.sleep(_POLL_SECONDS)


def container(pod: dict[str, Any]) -> str:
    """Return the name of a pod's container that does the work: the one that is called as its component."""
    component = pod["metadata"]["labels"].get("app.kubernetes.io/component", "")
    names = [one["name"] for one in pod["spec"]["containers"]]
    return component if component in names else str(names[0])


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


def together(kube: Any, pods: list[dict[str, Any]], tail: int | None) -> list[tuple[str, str]]:
    """Return pods' lines in the order in which they were printed."""
    from trireme.client.logs import Moment, stamped
    from trireme.errors import TriremeError

    query = {"timestamps": "true", **({} if tail is None else {"tailLines": str(tail)})}
    found: list[tuple[Moment, str, str]] = []
    for pod in pods:
        name = pod["metadata"]["name"]
        # A line without a timestamp stays behind the one before it.
        moment: Moment = (datetime.min.replace(tzinfo=UTC), 0)
        try:
            for line in kube.lines(name, container=container(pod), **query):
                stamp, text = stamped(line)
                moment = stamp or moment
                found.append((moment, name, text))
        except TriremeError as error:
            # One that has not begun has said nothing.
            if "waiting to start" not in str(error):
                raise
    return [(name, text) for _, name, text in sorted(found, key=lambda line: line[0])]


def _printer() -> Callable[[str, str], None]:
    colours: dict[str, str] = {}
    plain = not os.isatty(1)

    def write(pod: str, line: str) -> None:
        colour = colours.setdefault(pod, _COLOURS[len(colours) % len(_COLOURS)])
        click.echo(f"{pod if plain else click.style(pod, fg=colour)} {line}")

    return write
