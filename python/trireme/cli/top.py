"""`trireme top`: what clusters do."""

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from trireme.cli.connection import Place, cluster_name, connection_options, names_of
from trireme.cli.output import as_text

_REFRESH_SECONDS = 2.0
_COLUMNS: tuple[str, ...] = ("NAME", "ENGINE", "WORKERS", "CPU", "MEMORY", "WORK", "STATUS")
_WIDE = ("AGE", "IMAGE", "ENDPOINT")
_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "": 1}


@click.command()
@click.argument("name", required=False, callback=cluster_name, shell_complete=names_of("workerclusters"))
@click.option("-l", "--selector", default="", metavar="LABELS", help="Only clusters with these labels.")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Clusters of all namespaces.")
@click.option("-w", "--watch", is_flag=True, help="Refresh every 2 s, until Ctrl-C.")
@click.option("-o", "--output", type=click.Choice(["wide", "json", "yaml", "name"]), help="How to print.")
@connection_options
def top(place: Place, name: str | None, selector: str, everywhere: bool, watch: bool, output: str | None) -> None:
    """Show clusters' workers, memory and work.

    WORKERS are those that are ready, those that are desired, and those that the work asks for. WORK is known of
    clusters with spec.autoscaling, whose mode Observe tells it and sets no size.
    """
    if name and everywhere:
        raise click.UsageError("--all-namespaces goes with no NAME")
    kube = place.kube()
    if not watch:
        click.echo(_screen(kube, name, selector, everywhere, output))
        return
    from rich.live import Live
    from rich.text import Text

    from trireme.client.patience import Patience

    patience, screen = Patience(), ""
    try:
        if os.isatty(1):
            with Live(auto_refresh=False) as live:
                while True:
                    with patience:
                        screen = _screen(kube, name, selector, everywhere, output)
                    live.update(Text(f"{screen}\n{patience.error}: trying again" if patience.error else screen))
                    live.refresh()
                    time.sleep(_REFRESH_SECONDS)  # between two screens: engines tell no news, they are asked
        while True:
            with patience:
                click.echo(_screen(kube, name, selector, everywhere, output))
            if patience.error:
                click.echo(f"{patience.error}: trying again", err=True)
            time.sleep(_REFRESH_SECONDS)  # between two screens
    except KeyboardInterrupt:
        return


def _screen(kube: Any, name: str | None, selector: str, everywhere: bool, output: str | None) -> str:
    clusters = [kube.get("workerclusters", name)] if name else kube.list("workerclusters", selector, everywhere)
    if output == "name":
        return "\n".join(f"workercluster.trireme.dev/{one['metadata']['name']}" for one in clusters)
    usage, now = _usage(kube, everywhere), datetime.now(UTC)
    columns, found = _COLUMNS, [row(cluster, usage) for cluster in clusters]
    if output:
        columns += _WIDE
        found = [line + wide(cluster, now) for line, cluster in zip(found, clusters, strict=True)]
    if everywhere:
        columns = ("NAMESPACE", *columns)
        found = [(one["metadata"]["namespace"], *line) for line, one in zip(found, clusters, strict=True)]
    if output in ("json", "yaml"):
        return as_text([dict(zip(map(str.lower, columns), one, strict=True)) for one in found], output)
    if not found:
        return "No clusters in any namespace." if everywhere else f"No clusters in namespace {kube.namespace}."
    rows = [columns, *found]
    widths = [max(len(one[column]) for one in rows) for column in range(len(columns))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(one, widths, strict=True)).rstrip() for one in rows
    )


def _usage(kube: Any, everywhere: bool) -> dict[tuple[str, str], tuple[float, float]]:
    """Return the CPUs and bytes that clusters' workers use, by namespace and name; nothing where nobody measures."""
    from trireme.errors import TriremeError

    path = f"/apis/metrics.k8s.io/v1beta1{'' if everywhere else f'/namespaces/{kube.namespace}'}/pods"
    selector = "app.kubernetes.io/part-of=trireme,app.kubernetes.io/component=worker"
    found: dict[tuple[str, str], tuple[float, float]] = {}
    try:
        items = kube.request("GET", path, labelSelector=selector)["items"]
    except TriremeError:
        return found
    for pod in items:
        metadata = pod["metadata"]
        cluster = metadata["namespace"], metadata["labels"]["app.kubernetes.io/instance"]
        cpu, memory = found.get(cluster, (0.0, 0.0))
        for one in pod["containers"]:
            cpu, memory = cpu + quantity(one["usage"]["cpu"]), memory + quantity(one["usage"]["memory"])
        found[cluster] = (cpu, memory)
    return found


def quantity(text: str) -> float:
    """Read a quantity as metrics have them."""
    number = text.rstrip("numKMGi")
    return float(number) * _UNITS[text[len(number) :]]


def row(cluster: dict[str, Any], usage: dict[tuple[str, str], tuple[float, float]]) -> tuple[str, ...]:
    """Return a cluster's line."""
    name, status = cluster["metadata"]["name"], cluster.get("status", {})
    scaling = status.get("autoscaling", {})
    sizes = f"{status.get('readyReplicas', 0)}/{cluster['spec'].get('replicas', 1)}"
    if "desiredReplicas" in scaling:
        sizes += f"/{scaling['desiredReplicas']}"
    ready: dict[str, str] = next((one for one in status.get("conditions", []) if one["type"] == "Ready"), {})
    used = usage.get((cluster["metadata"].get("namespace", ""), name))
    cpu, memory = (f"{used[0]:.2f}", f"{used[1] / 2**20:.0f}Mi") if used else ("-", "-")
    return (name, cluster["spec"]["engine"], sizes, cpu, memory, scaling.get("demand", "-"), ready.get("reason", "-"))


def wide(cluster: dict[str, Any], now: datetime) -> tuple[str, ...]:
    """Return what a cluster's line has more with `-o wide`."""
    endpoints = cluster.get("status", {}).get("endpoints", [])
    created = cluster["metadata"].get("creationTimestamp")
    return (
        age(now - datetime.fromisoformat(created.replace("Z", "+00:00"))) if created else "-",
        cluster["spec"].get("image", "-"),
        endpoints[0]["url"] if endpoints else "-",
    )


def age(passed: timedelta) -> str:
    """Return how long ago something was, as kubectl says it: in the largest unit of which there are two."""
    seconds = max(0, int(passed.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
