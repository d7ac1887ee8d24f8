"""What stands of the cluster, and the ports that it needs."""

import json
import socket
from pathlib import Path

import pytest
from lab_room import answers

from trireme_lab import cluster, node_image, paths
from trireme_lab.cache import digest
from trireme_lab.cluster import CONTROL_PLANE, NODES, Nodes, State
from trireme_lab.problem import Problem

WORKER = NODES[1]
BOTH = dict.fromkeys(NODES, True)
THEIRS = "kindest/node:v1.34.0"


def mark(image: str = THEIRS, config: str | None = None) -> dict[str, str]:
    return {"image": image, "config": config or digest(paths.KIND_CONFIG)}


STATES = [
    ({}, None, None, State.ABSENT),
    ({CONTROL_PLANE: True}, None, None, State.HALF_MADE),
    ({CONTROL_PLANE: True}, mark(), None, State.HALF_MADE),
    ({CONTROL_PLANE: False}, None, None, State.HALF_MADE),
    ({WORKER: True}, None, None, State.HALF_MADE),
    ({**BOTH, f"{WORKER}2": True}, mark(), None, State.HALF_MADE),
    ({CONTROL_PLANE: False, WORKER: False}, None, None, State.STOPPED),
    ({CONTROL_PLANE: False, WORKER: True}, None, None, State.STOPPED),
    ({CONTROL_PLANE: True, WORKER: False}, mark(), None, State.STOPPED),
    (BOTH, None, None, State.HALF_MADE),
    (BOTH, mark(config="another"), None, State.OUTDATED),
    (BOTH, mark(config="another"), THEIRS, State.OUTDATED),
    (BOTH, mark(), "kindest/node:v1.33.0", State.OUTDATED),
    (BOTH, mark(node_image.name()), THEIRS, State.OUTDATED),
    (BOTH, mark(f"{node_image.REPOSITORY}:another"), None, State.OUTDATED),
    (BOTH, mark(), node_image.name(), State.OUTDATED),
    (BOTH, mark(), None, State.STANDING),
    (BOTH, mark(), THEIRS, State.STANDING),
    (BOTH, mark(node_image.name()), None, State.STANDING),
    (BOTH, mark(node_image.name()), node_image.name(), State.STANDING),
]


@pytest.mark.parametrize(("running", "left", "image", "expected"), STATES)
def test_state(running: dict[str, bool], left: dict[str, str] | None, image: str | None, expected: State) -> None:
    assert cluster.state(Nodes(running), left, image) is expected


def test_another_configuration_outdates_the_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = mark()
    changed = tmp_path / paths.KIND_CONFIG.name
    changed.write_text(f"{paths.KIND_CONFIG.read_text()}# more\n")
    monkeypatch.setattr(paths, "KIND_CONFIG", changed)
    assert cluster.state(Nodes(BOTH), before, None) is State.OUTDATED
    assert cluster.state(Nodes(BOTH), mark(), None) is State.STANDING


def test_nodes_as_the_engine_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, {"docker ps --all": f"{CONTROL_PLANE} running\n{WORKER} exited\n"})
    assert Nodes.observe() == Nodes({CONTROL_PLANE: True, WORKER: False})
    answers(monkeypatch, {"docker ps --all": ""})
    assert Nodes.observe() == Nodes({})
    answers(monkeypatch, {})
    assert Nodes.observe() == Nodes({})


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (json.dumps(mark()), State.STANDING),
        (json.dumps({**mark(), "more": "1"}), State.STANDING),
        (json.dumps(mark())[:-5], State.HALF_MADE),
        ('{"image": "x"}', State.HALF_MADE),
        ("[]", State.HALF_MADE),
        ("", State.HALF_MADE),
    ],
)
def test_what_a_cluster_was_made_from(monkeypatch: pytest.MonkeyPatch, left: str, expected: State) -> None:
    nodes = "".join(f"{node} running\n" for node in NODES)
    answers(monkeypatch, {"docker ps": nodes, f"docker exec {CONTROL_PLANE} cat": left})
    assert cluster.observe(None) is expected


def test_no_mark_when_the_node_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, {"docker ps": "".join(f"{node} running\n" for node in NODES)})
    assert cluster.observe(None) is State.HALF_MADE


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (f"{CONTROL_PLANE} True\n{WORKER} True\n", []),
        (f"{CONTROL_PLANE} True\n{WORKER} Unknown\n", [WORKER]),
        (f"{CONTROL_PLANE} \n{WORKER} True\n", [CONTROL_PLANE]),
        (f"{CONTROL_PLANE} True\n", [WORKER]),
        (None, list(NODES)),
    ],
)
def test_nodes_that_are_not_ready(monkeypatch: pytest.MonkeyPatch, listed: str | None, expected: list[str]) -> None:
    answers(monkeypatch, {} if listed is None else {"/k --context=kind-trireme get nodes": listed})
    assert cluster.not_ready(Path("/k")) == expected


CONFIG = """\
kind: Cluster
networking:
  apiServerPort: 6443  # fixed
nodes:
  - role: control-plane
    extraPortMappings:
      - containerPort: 30080
        hostPort: 8080
      - {containerPort: 30443, hostPort: 8443, protocol: TCP}
      # - hostPort: 8081
      - containerPort: 30000  # not hostPort: 8082
      - hostPort: 0
      - hostPort: -1
  - role: worker
"""


def test_ports_that_a_configuration_fixes() -> None:
    assert cluster.published(CONFIG) == [6443, 8080, 8443]
    assert cluster.published("kind: Cluster\n") == []
    assert cluster.published('[{containerPort: 1, hostPort: 80}, {containerPort: 2, "hostPort": 443}]') == [80, 443]
    assert cluster.published("# hostPort: 80\nhostPort: 443 # hostPort: 81\n") == [443]


def test_a_port_in_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "kind-config.yaml"
    monkeypatch.setattr(paths, "KIND_CONFIG", config)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        config.write_text(f"nodes:\n  - extraPortMappings:\n      - hostPort: {port}\n")
        with pytest.raises(Problem) as problem:
            cluster.check_ports()
    assert str(problem.value) == f"port {port} is in use: free it, or change it in kind-config.yaml"
    cluster.check_ports()
