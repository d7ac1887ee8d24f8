"""`make cluster-status`: what stands, and what is broken."""

from collections.abc import Iterator

from trireme_lab import cluster, deploy, engine, images, tools
from trireme_lab.cache import Cache
from trireme_lab.cluster import NODES, Nodes, State
from trireme_lab.console import Steps, say
from trireme_lab.problem import Problem


def status(cache: Cache) -> None:
    """Print one line for each part.

    Raises:
        Problem: something is broken; `make cluster-up` mends it.
    """
    broken = 0
    for part, fault in _parts(cache):
        say(f"  {part:<28} {fault or 'ok'}")
        broken += fault is not None
    if broken:
        raise Problem(f"{broken} broken: `make cluster-up` mends it")


def _parts(cache: Cache) -> Iterator[tuple[str, str | None]]:
    """Yield each part and what is wrong with it; what depends on a broken part is not looked at."""
    if not engine.answers():
        yield "Docker engine", "does not answer"
        return
    yield "Docker engine", None
    running = Nodes.observe().running
    for node in NODES:
        yield f"node {node}", None if running.get(node) else ("stopped" if node in running else "absent")
    found = cluster.observe(None)
    yield "cluster", None if found is State.STANDING else found.value
    if found is not State.STANDING:
        return
    with Steps(cache).quiet("status") as log:
        kubectl = tools.kubectl(log, cache, cluster.CONTROL_PLANE)
    if not cluster.answers(kubectl):
        yield "API server", f"does not answer under the context {cluster.CONTEXT}"
        return
    yield "API server", None
    not_ready = cluster.not_ready(kubectl)
    yield "nodes Ready", f"not Ready: {', '.join(not_ready)}" if not_ready else None
    stale = images.missing()
    yield "images built", f"missing or outdated: {', '.join(stale)}" if stale else None
    if not stale:
        for node in NODES:
            absent = images.absent(node)
            yield f"images in {node}", f"missing: {', '.join(absent)}" if absent else None
    unavailable = deploy.unavailable(kubectl)
    yield "Deployments available", f"not: {', '.join(unavailable)}" if unavailable else None
    unsettled = deploy.unsettled(kubectl)
    yield "pods ready", f"not: {', '.join(unsettled)}" if unsettled else None
