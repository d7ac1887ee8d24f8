"""`trireme run` on a cluster: create, follow, and clean up after Ctrl-C."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from trireme.cli import logs, manifests
from trireme.cli.connection import Place
from trireme.cli.run import Wanted
from trireme.client import objects
from trireme.client.job import Job, create, fresh
from trireme.client.kube import AlreadyExists
from trireme.client.making import Made
from trireme.client.objects import KEEP_SECONDS
from trireme.errors import TriremeError
from trireme.signals import terminable

_KINDS = {
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "WorkerCluster": "workerclusters",
    "WorkerJob": "workerjobs",
}


@dataclass(frozen=True)
class After:
    """What comes once a job is made.

    Args:
        detach: whether nobody waits for it.
        dry_run: none; or who looks at it, and nothing is made: client or server.
        output: how to print what was made; not at all if None.
        worker_logs: whether to print what workers log.
    """

    detach: bool = False
    dry_run: str = "none"
    output: str | None = None
    worker_logs: bool = False


def script(place: Place, wanted: Wanted, timeout: int | None, after: After) -> int:
    """Run a script, and return its exit code."""
    kube = place.kube()
    more: dict[str, Any] = {"ttlSecondsAfterFinished": KEEP_SECONDS}
    if timeout:
        more["activeDeadlineSeconds"] = timeout
    name = wanted.name if wanted.named else fresh(wanted.name)
    if after.dry_run == "client":
        from trireme.client.job import wanted as objects_for

        shown = objects_for(
            kube,
            wanted.script,
            name,
            wanted.cluster,
            wanted.borrowed,
            wanted.driver,
            wanted.args,
            wanted.files,
            more,
            wanted.requirements,
            wanted.labels,
        )
        _show(list(shown), after.output or "yaml")
        return 0
    if wanted.borrowed and (own := objects.modules(wanted.script, wanted.script.read_text())):
        _say(
            f"{', '.join(own)}: for the driver alone, the workers of {wanted.borrowed} do not get what goes along:"
            " tasks can import it only from their cluster's image or spec.code"
        )
    made = Made(kube)

    def make() -> tuple[list[Job], list[dict[str, Any]]]:
        job, items = create(
            kube,
            wanted.script,
            name=name,
            cluster=wanted.cluster,
            borrowed=wanted.borrowed,
            driver=wanted.driver,
            args=wanted.args,
            files=wanted.files,
            more=more,
            requirements=wanted.requirements,
            labels=wanted.labels,
            dry_run=after.dry_run == "server",
            made=made,
        )
        return [job], items

    return _attend(made, make, after)


def manifest(place: Place, filename: str, after: After) -> int:
    """Run the WorkerJobs of a manifest, with what they need; return the largest exit code."""
    kube = place.kube()
    documents: list[dict[str, Any]] = []
    for number, one in enumerate(manifests.read(filename), 1):
        if one is None:
            continue
        if one["kind"] not in _KINDS:
            raise TriremeError(
                f"{filename}: document {number}: {one['kind']} is none of {', '.join(_KINDS)}: apply it by kubectl"
            )
        if one["metadata"].get("namespace", kube.namespace) != kube.namespace:
            raise TriremeError(
                f"{filename}: document {number} is for namespace {one['metadata']['namespace']},"
                f" not for {kube.namespace}: say so by --namespace"
            )
        documents.append(one)
    if not any(one["kind"] == "WorkerJob" for one in documents):
        raise TriremeError(f"{filename}: there is no WorkerJob in it")
    if after.dry_run == "client":
        _show(documents, after.output or "yaml")
        return 0
    # What a job needs goes before it.
    documents.sort(key=lambda one: list(_KINDS).index(one["kind"]))
    made = Made(kube)

    def make() -> tuple[list[Job], list[dict[str, Any]]]:
        items = [_make(made, one, after.dry_run == "server") for one in documents]
        return [Job(kube, one) for one in items if one["kind"] == "WorkerJob"], items

    return _attend(made, make, after)


def _make(made: Made, item: dict[str, Any], dry_run: bool) -> dict[str, Any]:
    if item["kind"] != "WorkerJob":
        return made.apply(_KINDS[item["kind"]], item, dry_run)
    try:
        return made.create("workerjobs", item, dry_run)
    except AlreadyExists:
        name = item["metadata"]["name"]
        raise AlreadyExists(f"job {name} is there already: delete it, or name this one otherwise") from None


def _attend(made: Made, make: Callable[[], tuple[list[Job], list[dict[str, Any]]]], after: After) -> int:
    """Make jobs, and follow them; what is not whole, or stopped by Ctrl-C, TERM or HUP, is taken back."""
    with terminable():
        return _followed(made, make, after)


def _followed(made: Made, make: Callable[[], tuple[list[Job], list[dict[str, Any]]]], after: After) -> int:
    jobs: list[Job] = []
    try:
        jobs, items = make()
        dry_run = after.dry_run != "none"
        if dry_run or after.output:
            _show(items, after.output or "yaml")
        if dry_run:
            return 0
        if after.detach:
            if not after.output:
                for job in jobs:
                    click.echo(f"workerjob.trireme.dev/{job.name}")
            return 0
        several = len(jobs) > 1
        write_worker = logs.printer(err=True) if after.worker_logs else None
        return max(
            job.watch(_say, lambda pod, line: click.echo(f"[{pod}] {line}" if several else line), write_worker)
            for job in jobs
        )
    except KeyboardInterrupt:
        names = ", ".join(job.name for job in jobs)
        if names and after.dry_run == "none" and _keeps_going(names):
            click.echo(f"{names} goes on: trireme logs -f {names}", err=True)
            return 130
        if not _take_back(made):
            click.echo(f"{names or 'what was made'} stopped and deleted", err=True)
        return 130
    except SystemExit:
        # TERM, or a terminal that is gone: nobody is there to ask.
        if not (jobs and after.detach):
            _take_back(made)
        raise
    except BaseException:
        if not jobs:
            _take_back(made)
        raise


def _take_back(made: Made) -> bool:
    """Delete what was made; tell what is left, and whether anything is."""
    left = made.take_back()
    # After HUP there may be nowhere to write to.
    with suppress(OSError):
        for what, error in left.items():
            click.echo(f"{what} may be left: {error}", err=True)
    return bool(left)


def _keeps_going(names: str) -> bool:
    """Ask whether jobs are to go on without this command; a second Ctrl-C, or nobody to ask, is a no."""
    import sys

    if not sys.stdin.isatty():
        return False
    try:
        click.echo(err=True)
        return not click.confirm(f"Stop {names} and delete it?", default=True, err=True)
    except (click.Abort, KeyboardInterrupt):
        return False


def _say(line: str) -> None:
    click.echo(click.style(line, dim=True), err=True)


def _show(items: list[dict[str, Any]], output: str) -> None:
    if output == "name":
        for item in items:
            group = str(item.get("apiVersion", "")).rpartition("/")[0]
            click.echo(f"{item['kind'].lower()}{'.' + group if group else ''}/{item['metadata']['name']}")
        return
    found: Any = items[0] if len(items) == 1 else {"apiVersion": "v1", "kind": "List", "items": items}
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    import yaml

    click.echo(yaml.safe_dump_all(items, sort_keys=False).rstrip())
