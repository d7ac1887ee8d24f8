"""Forwards where the cluster refuses the user: told once, closed at once."""

import socket

import pytest
from answering import answering

from trireme.client.forward import Forward
from trireme.client.kube import Kube

CORE = "/api/v1/namespaces/team"
NO_FORWARD = 'pods "sums-0" is forbidden: User "me" cannot create resource "pods/portforward" in API group ""'


@pytest.fixture
def server(tmp_path):
    with answering(tmp_path) as (answers, config):
        answers.kube = Kube(config)
        answers.say("GET", f"{CORE}/services/sums", {"spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}})
        pod = {"metadata": {"name": "sums-0"}, "status": {"phase": "Running"}}
        answers.say("GET", f"{CORE}/pods", {"items": [pod]})
        yield answers


@pytest.mark.parametrize(
    ("path", "status", "message", "told"),
    [
        ("pods/sums-0/portforward", 403, NO_FORWARD, "no right to create pods/portforward in namespace team: "),
        ("pods/sums-0/portforward", 401, "Unauthorized", "the cluster refuses the credentials of context here"),
        ("pods", 403, 'pods is forbidden: User "me" cannot list resource "pods"', "no right to list pods in namespace"),
    ],
)
def test_a_refusal_is_told_once_and_closes_at_once(server, capsys, path, status, message, told):
    server.refuse("GET", f"{CORE}/{path}", status, message, "Forbidden" if status == 403 else "Unauthorized")
    with Forward(server.kube, "sums", 80) as forward:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", forward.port), 20) as client:
                assert client.recv(1) == b""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: forward to sums:80: {told}")
