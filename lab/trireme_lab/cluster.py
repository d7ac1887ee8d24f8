"""The kind cluster `trireme`: what stands of it, making it, mending it."""

import json
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from trireme_lab import host, node_image, paths
from trireme_lab.cache import digest
from trireme_lab.commands import Log, answer, succeeds, wait_for
from trireme_lab.problem import Problem

NAME = "trireme"
CONTEXT = f"kind-{NAME}"
CONTROL_PLANE = f"{NAME}-control-plane"
NODES = (CONTROL_PLANE, f"{NAME}-worker")
_MARK = "/kind/trireme.json"


class State(Enum):
    """How far the cluster is from standing."""

    ABSENT = "absent"
    STOPPED = "stopped"
    HALF_MADE = "half made"
    OUTDATED = "of an older version"
    STANDING = "standing"


@dataclass(frozen=True)
class Nodes:
    """The node containers as the engine sees them: name to whether it runs."""

    running: dict[str, bool]

    @classmethod
    def observe(cls) -> "Nodes":
        """Ask the engine."""
        text = answer(
            *("docker", "ps", "--all", "--no-trunc", f"--filter=label=io.x-k8s.kind.cluster={NAME}"),
            "--format={{.Names}} {{.State}}",
        )
        return cls({name: state == "running" for name, state in (line.split() for line in (text or "").splitlines())})


def state(nodes: Nodes, mark: dict[str, str] | None, image: str | None) -> State:
    """Decide what stands.

    Args:
        nodes: the containers.
        mark: what `make` left in the control plane, None when it never ended or the node does not run.
        image: the node image that is asked for by name, None where any will do.
    """
    if not nodes.running:
        return State.ABSENT
    if set(nodes.running) != set(NODES):
        return State.HALF_MADE
    if not all(nodes.running.values()):
        return State.STOPPED
    if mark is None:
        return State.HALF_MADE
    wanted = image or (node_image.name() if mark["image"].startswith(node_image.REPOSITORY) else mark["image"])
    if mark["config"] != _config_key() or mark["image"] != wanted:
        return State.OUTDATED
    return State.STANDING


def observe(image: str | None) -> State:
    """Return what stands now; see `state`."""
    return state(Nodes.observe(), _read_mark(), image)


def _config_key() -> str:
    return digest(paths.KIND_CONFIG)


def _read_mark() -> dict[str, str] | None:
    text = answer("docker", "exec", CONTROL_PLANE, "cat", _MARK)
    try:
        mark = json.loads(text) if text else None
    except ValueError:
        return None
    return mark if isinstance(mark, dict) and {"config", "image"} <= mark.keys() else None


def check_ports() -> None:
    """Make sure that what kind-config.yaml publishes on this host is free.

    Raises:
        Problem: a port is in use; names it.
    """
    for port in published(paths.KIND_CONFIG.read_text()):
        if not host.port_is_free(port):
            raise Problem(f"port {port} is in use: free it, or change it in {paths.KIND_CONFIG.name}")


def published(config: str) -> list[int]:
    """Return the ports of the host that a kind configuration fixes."""
    without_comments = re.sub(r"(?m)(^|\s)#.*$", "", config)
    found = re.findall(r"""\b(?:hostPort|apiServerPort)["']?\s*:\s*([1-9]\d*)""", without_comments)
    return [int(port) for port in found]


def make(log: Log, kind: Path, image: str | None) -> None:
    """Make the cluster; `finish` ends it. Without an image, kind pulls its own.

    Raises:
        Problem: kind failed; nothing is left of the cluster.
    """
    try:
        log.run(
            *(kind, "create", "cluster", f"--config={paths.KIND_CONFIG}"),
            *([f"--image={image}"] if image else []),
        )
    except Problem:
        # Also when this failed because something beside it did, after which the log starts no command.
        answer(kind, "delete", "cluster", f"--name={NAME}", seconds=120)
        raise


def finish(log: Log, image: str | None) -> None:
    """Leave the mark that the cluster was made to the end, and from what."""
    used = image or (answer("docker", "inspect", "--format={{.Config.Image}}", CONTROL_PLANE) or "").strip()
    mark = json.dumps({"config": _config_key(), "image": used})
    log.run("docker", "exec", "-i", CONTROL_PLANE, "sh", "-c", f"cat > {_MARK}", stdin=mark)


def takes_images(node: str) -> bool:
    """Tell whether images can be loaded into the node."""
    return succeeds("docker", "exec", node, "ctr", "version")


def start(log: Log) -> None:
    """Start the nodes that are stopped."""
    stopped = [name for name, runs in Nodes.observe().running.items() if not runs]
    log.run("docker", "start", *stopped)


def delete(log: Log, kind: Path) -> None:
    """Remove the cluster, whatever stands of it, and its entry in the kubeconfig."""
    log.run(kind, "delete", "cluster", f"--name={NAME}")


def answers(kubectl: Path) -> bool:
    """Tell whether the API server answers under the kubeconfig's entry."""
    return succeeds(kubectl, f"--context={CONTEXT}", "get", "--raw=/readyz", seconds=5)


def reach(log: Log, kind: Path, kubectl: Path, seconds: float = 90) -> None:
    """Wait until the API server answers and all nodes are Ready; mend the kubeconfig's entry if it is stale or gone.

    Raises:
        Problem: they are not within the time.
    """
    if not answers(kubectl):
        log.run(kind, "export", "kubeconfig", f"--name={NAME}")
    wait_for("both nodes are Ready", lambda: not_ready(kubectl) == [], seconds)


def not_ready(kubectl: Path) -> list[str]:
    """Return the nodes that are missing or not Ready."""
    ready = (
        '{range .items[*]}{.metadata.name}{" "}{range .status.conditions[?(@.type=="Ready")]}{.status}{end}{"\\n"}{end}'
    )
    text = answer(kubectl, f"--context={CONTEXT}", "get", "nodes", f"--output=jsonpath={ready}", "--request-timeout=5s")
    found = dict(line.split(" ", 1) for line in (text or "").splitlines())
    return [node for node in NODES if found.get(node) != "True"]
