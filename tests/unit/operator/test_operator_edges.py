"""Where the operator meets its surroundings: settings, events, logs, metrics."""

import asyncio
import json
import logging
import socket
import sys
import threading
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from operating import STAMP, cluster, condition, job

from trireme_operator import events, logs, metrics
from trireme_operator.api import Object
from trireme_operator.logs import JsonFormatter
from trireme_operator.settings import Settings, parse

DEFAULTS: Object = {
    "namespace": None,
    "own_namespace": "trireme-system",
    "charts": Path("/opt/trireme/charts"),
    "port": 8080,
    "workers": 8,
    "leader_election": True,
    "log_level": "INFO",
    "helm": "",
    "registry": "",
    "metrics_from": [],
}


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {}, {}),
        (["--namespace", "a"], {}, {"namespace": "a"}),
        ([], {"TRIREME_NAMESPACE": "b"}, {"namespace": "b"}),
        (["--namespace", "a"], {"TRIREME_NAMESPACE": "b"}, {"namespace": "a"}),
        (["--namespace", ""], {"TRIREME_NAMESPACE": "b"}, {"namespace": None}),
        ([], {"TRIREME_NAMESPACE": ""}, {"namespace": None}),
        (["--own-namespace=a"], {}, {"own_namespace": "a"}),
        ([], {"TRIREME_OWN_NAMESPACE": "a"}, {"own_namespace": "a"}),
        (["--charts", "charts"], {}, {"charts": Path("charts")}),
        ([], {"TRIREME_CHARTS": "charts"}, {"charts": Path("charts")}),
        (["--registry", "registry.example/team"], {}, {"registry": "registry.example/team"}),
        ([], {"TRIREME_REGISTRY": "registry.example/team/"}, {"registry": "registry.example/team"}),
        ([], {"TRIREME_METRICS_FROM": '[{"podSelector": {}}]'}, {"metrics_from": [{"podSelector": {}}]}),
        (["--metrics-from", "[]"], {"TRIREME_METRICS_FROM": "[{}]"}, {"metrics_from": []}),
        (["--helm", "helm4"], {}, {"helm": "helm4"}),
        ([], {"TRIREME_HELM": "helm4"}, {"helm": "helm4"}),
        (["--port", "1"], {}, {"port": 1}),
        ([], {"TRIREME_PORT": "2"}, {"port": 2}),
        (["--workers", "1"], {"TRIREME_WORKERS": "2"}, {"workers": 1}),
        ([], {"TRIREME_WORKERS": "2"}, {"workers": 2}),
        (["--no-leader-election"], {}, {"leader_election": False}),
        ([], {"TRIREME_LEADER_ELECTION": "false"}, {"leader_election": False}),
        (["--leader-election"], {"TRIREME_LEADER_ELECTION": "false"}, {"leader_election": True}),
        ([], {"TRIREME_LEADER_ELECTION": "False"}, {"leader_election": False}),
        ([], {"TRIREME_LEADER_ELECTION": "TRUE"}, {"leader_election": True}),
        (["--log-level", "DEBUG"], {}, {"log_level": "DEBUG"}),
        ([], {"TRIREME_LOG_LEVEL": "ERROR"}, {"log_level": "ERROR"}),
        ([], {"NAMESPACE": "b", "PORT": "3"}, {}),
    ],
)
def test_settings(arguments: list[str], environment: dict[str, str], expected: Object) -> None:
    found = parse(["--identity", "me", *arguments], environment)
    assert found == Settings(identity="me", **{**DEFAULTS, **expected})


def test_identity_is_the_hosts_name_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host-1")
    assert parse([], {}).identity == "host-1"
    assert parse([], {"TRIREME_IDENTITY": "pod-1"}).identity == "pod-1"


def test_the_environment_is_the_process_own_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIREME_WORKERS", "3")
    assert parse([]).workers == 3
    assert parse([], {}).workers == 8


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--port", "http"], {}),
        (["--metrics-from", "monitoring"], {}),
        ([], {"TRIREME_METRICS_FROM": '{"podSelector": {}}'}),
        ([], {"TRIREME_METRICS_FROM": '["monitoring"]'}),
        ([], {"TRIREME_PORT": "http"}),
        (["--log-level", "LOUD"], {}),
        ([], {"TRIREME_LOG_LEVEL": "LOUD"}),
        ([], {"TRIREME_LOG_LEVEL": ""}),
        ([], {"TRIREME_LEADER_ELECTION": "no"}),
        ([], {"TRIREME_LEADER_ELECTION": "1"}),
        ([], {"TRIREME_LEADER_ELECTION": ""}),
        (["--unknown"], {}),
    ],
)
def test_settings_that_are_none(
    arguments: list[str], environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments, environment)
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err


def scaling(status: str, reason: str) -> Object:
    return condition("AutoscalingActive", status, reason)


READY = condition("Ready", "True", "Ready")
CONTENDED = condition("ScalingContended", "True", "TwoWriters")
NOT_READY = condition("Ready", "False", "NoWorkers")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], [READY], [("Normal", "Ready")]),
        ([READY], [{**READY, "message": "other words", "observedGeneration": 9}], []),
        # The steps of a start go without saying, but what was lost does not.
        ([], [NOT_READY], []),
        ([READY], [NOT_READY], [("Warning", "NoWorkers")]),
        ([NOT_READY], [READY], [("Normal", "Ready")]),
        ([NOT_READY], [condition("Ready", "False", "ControlNotReady")], []),
        ([NOT_READY], [condition("Ready", "False", "InvalidSpec")], [("Warning", "InvalidSpec")]),
        ([], [condition("Progressing", "False", "Settled"), condition("Progressing", "True", "WorkersChanging")], []),
        ([], [condition("Progressing", "False", "InvalidSpec")], []),
        # Told by Ready as well.
        ([], [condition("Progressing", "True", "QuotaExceeded")], []),
        (
            [condition("Progressing", "False", "Settled")],
            [condition("Progressing", "True", "ImagePullBackOff")],
            [],
        ),
        ([], [condition("Suspended", "False", "NotSuspended")], []),
        ([], [condition("Suspended", "True", "Suspended")], [("Normal", "Suspended")]),
        (
            [condition("Suspended", "True", "Suspended")],
            [condition("Suspended", "False", "NotSuspended")],
            [("Normal", "Resumed")],
        ),
        ([], [condition("ClusterReady", "False", "Creating")], []),
        ([], [condition("ClusterReady", "False", "NotFound")], [("Warning", "NotFound")]),
        ([], [condition("ClusterReady", "False", "NameTaken")], [("Warning", "NameTaken")]),
        ([], [condition("DriverRunning", "False", "Starting")], []),
        ([], [condition("DriverRunning", "False", "ImagePullBackOff")], [("Warning", "ImagePullBackOff")]),
        ([], [condition("Complete", "True", "Completed")], [("Normal", "Completed")]),
        ([], [condition("Failed", "True", "OOMKilled")], [("Warning", "OOMKilled")]),
        (
            [],
            [READY, condition("Failed", "True", "DriverFailed")],
            [("Normal", "Ready"), ("Warning", "DriverFailed")],
        ),
        # Autoscaling begins with the cluster, which tells so itself,
        ([], [scaling("False", "Starting")], []),
        ([], [scaling("False", "ControlNotReady")], []),
        ([], [scaling("True", "DemandKnown")], []),
        ([scaling("False", "Starting")], [scaling("False", "ControlNotReady")], []),
        ([scaling("False", "Starting")], [scaling("True", "DemandKnown")], []),
        ([scaling("False", "ControlNotReady")], [scaling("True", "DemandKnown")], []),
        ([scaling("True", "DemandKnown")], [scaling("False", "ControlNotReady")], []),
        # and pauses with it.
        ([scaling("True", "DemandKnown")], [scaling("False", "Suspended")], []),
        ([scaling("False", "NoAnswer")], [scaling("False", "Suspended")], []),
        ([scaling("False", "Suspended")], [scaling("False", "Starting")], []),
        ([scaling("False", "Suspended")], [scaling("True", "DemandKnown")], []),
        (
            [condition("Suspended", "False", "NotSuspended"), scaling("True", "DemandKnown")],
            [condition("Suspended", "True", "Suspended"), scaling("False", "Suspended")],
            [("Normal", "Suspended")],
        ),
        (
            [condition("Suspended", "True", "Suspended"), scaling("False", "Suspended")],
            [condition("Suspended", "False", "NotSuspended"), scaling("False", "Starting")],
            [("Normal", "Resumed")],
        ),
        # Blind, it tells, and once it sees again.
        ([scaling("True", "DemandKnown")], [scaling("False", "NoAnswer")], [("Warning", "NoAnswer")]),
        ([scaling("False", "Starting")], [scaling("False", "NoAnswer")], [("Warning", "NoAnswer")]),
        ([], [scaling("False", "NoControlPod")], [("Warning", "NoControlPod")]),
        ([scaling("False", "NoAnswer")], [scaling("False", "BadAnswer")], [("Warning", "BadAnswer")]),
        ([scaling("False", "NoAnswer")], [{**scaling("False", "NoAnswer"), "message": "other words"}], []),
        ([scaling("False", "NoAnswer")], [scaling("True", "DemandKnown")], [("Normal", "DemandKnown")]),
        ([scaling("True", "DemandKnown")], [], []),
        # So does one that only observes.
        ([], [scaling("False", "Observing")], []),
        ([scaling("False", "Starting")], [scaling("False", "Observing")], []),
        ([scaling("False", "Observing")], [scaling("False", "NoAnswer")], [("Warning", "NoAnswer")]),
        ([scaling("False", "NoAnswer")], [scaling("False", "Observing")], [("Normal", "Observing")]),
        ([scaling("True", "DemandKnown")], [scaling("False", "Observing")], [("Normal", "Observing")]),
        ([scaling("False", "Observing")], [scaling("True", "DemandKnown")], [("Normal", "DemandKnown")]),
        # A fight is told when it begins, and that is all.
        ([], [CONTENDED], [("Warning", "TwoWriters")]),
        ([CONTENDED], [{**CONTENDED, "message": "others as well"}], []),
        ([CONTENDED], [], []),
    ],
)
def test_what_is_worth_an_event(before: list[Object], after: list[Object], expected: list[tuple[str, str]]) -> None:
    found = events.for_conditions(cluster(), before, after, STAMP)
    assert [(event["type"], event["reason"]) for event in found] == expected
    assert {event["message"] for event in found} <= {one["message"] for one in after}


@pytest.mark.parametrize("item", [cluster(), job()])
def test_an_event_is_about_its_object(item: Object) -> None:
    first, second = (event for _ in range(2) for event in events.for_conditions(item, [], [READY], STAMP))
    metadata = item["metadata"]
    assert first["involvedObject"] == {
        "apiVersion": "trireme.dev/v1alpha1",
        "kind": item["kind"],
        **{name: metadata[name] for name in ("name", "namespace", "uid")},
    }
    assert (first["apiVersion"], first["kind"], first["metadata"]["namespace"]) == ("v1", "Event", "team")
    assert (first["firstTimestamp"], first["lastTimestamp"], first["count"]) == (STAMP, STAMP, 1)
    assert first["metadata"]["name"].startswith(f"{metadata['name']}.")
    # Created, never applied: a second one of a name would be refused.
    assert first["metadata"]["name"] != second["metadata"]["name"]


def test_an_events_message_has_the_length_that_is_allowed() -> None:
    (event,) = events.for_conditions(cluster(), [], [{**READY, "message": "x" * 5000}], STAMP)
    assert event["message"] == "x" * 1024


def test_an_event_of_its_own() -> None:
    event = events.event(cluster(), "Scaled", "from 1 to 2 workers", "Normal", STAMP)
    (other,) = events.for_conditions(cluster(), [], [READY], STAMP)
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "Scaled", "from 1 to 2 workers")
    assert event["involvedObject"] == other["involvedObject"]
    assert event["metadata"]["name"] != other["metadata"]["name"]
    assert (event["firstTimestamp"], event["lastTimestamp"], event["source"]) == (STAMP, STAMP, other["source"])
    assert len(events.event(cluster(), "Scaled", "x" * 5000, "Normal", STAMP)["message"]) == 1024


def record(message: str, *arguments: object, **more: Any) -> logging.LogRecord:
    return logging.getLogger("trireme_operator.test").makeRecord(
        "trireme_operator.test", logging.WARNING, "file.py", 1, message, arguments, **{"exc_info": None, **more}
    )


def test_a_log_line_is_json_with_what_extra_gave() -> None:
    text = JsonFormatter().format(record("%s went", "a", extra={"object": "Job/a/b", "seconds": 1.5}))
    line = json.loads(text)
    datetime.fromisoformat(line.pop("time"))
    assert line == {
        "level": "WARNING",
        "logger": "trireme_operator.test",
        "message": "a went",
        "object": "Job/a/b",
        "seconds": 1.5,
    }
    assert "\n" not in text


def test_a_log_line_tells_which_reconcile_it_is_of() -> None:
    token = logs.CONTEXT.set({"reconcile": "1a2b", "reconciled": "WorkerJob/a/b"})
    try:
        line = json.loads(JsonFormatter().format(record("went", extra={"object": "Job/a/b"})))
    finally:
        logs.CONTEXT.reset(token)
    told = {name: line[name] for name in ("reconcile", "reconciled", "object")}
    assert told == {"reconcile": "1a2b", "reconciled": "WorkerJob/a/b", "object": "Job/a/b"}
    assert "reconcile" not in json.loads(JsonFormatter().format(record("went")))


def test_a_log_line_tells_the_exception() -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        text = JsonFormatter().format(record("failed", exc_info=sys.exc_info()))
    assert json.loads(text)["exception"].endswith("ValueError: no such thing")
    assert "\n" not in text


def test_a_log_line_takes_what_is_no_json() -> None:
    text = JsonFormatter().format(record("at", extra={"where": Path("/a")}))
    assert json.loads(text)["where"] == "/a"


@pytest.mark.parametrize(
    ("path", "ready", "alive", "status", "body"),
    [
        ("/healthz", True, True, 200, b"ok"),
        # Alive before it has seen anything, or it would be killed for being slow.
        ("/healthz", False, True, 200, b"ok"),
        ("/healthz", True, False, 503, b"the event loop hangs"),
        ("/readyz", True, True, 200, b"ok"),
        ("/readyz", False, True, 503, b"not synced yet"),
        ("/", True, True, 404, b"not found"),
        ("/metrics/x", True, True, 404, b"not found"),
    ],
)
def test_health(path: str, ready: bool, alive: bool, status: int, body: bytes) -> None:
    assert metrics.answer(path, lambda: ready, lambda: alive) == (status, body)


def test_an_event_loop_that_hangs_is_told_from_one_that_turns() -> None:
    loop = asyncio.new_event_loop()
    held, let_go = threading.Event(), threading.Event()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert metrics.turns(loop)

        def hang() -> None:
            held.set()
            let_go.wait(30)

        loop.call_soon_threadsafe(hang)
        assert held.wait(30)
        assert not metrics.turns(loop, 0.1)
        let_go.set()
        assert metrics.turns(loop)
    finally:
        let_go.set()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert not metrics.turns(loop)


def test_metrics_are_told_by_kind_and_result() -> None:
    name = 'trireme_reconciles_total{kind="WorkerJob",result="error"}'

    def told() -> float:
        status, body = metrics.answer("/metrics", lambda: False, lambda: False)
        assert status == 200
        lines = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
        assert {"trireme_queue_length", "trireme_leader"} <= lines.keys()
        return float(lines.get(name, 0))

    before = told()
    metrics.RECONCILES.labels("WorkerJob", "error").inc()
    assert told() == before + 1


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        # Who asked has gone.
        (ConnectionResetError, []),
        (ValueError, [ValueError]),
    ],
)
def test_an_answer_that_fails_is_told_in_the_log_alone(
    error: type[Exception],
    logged: list[type[Exception]],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    reached = threading.Event()

    def ready() -> bool:
        reached.set()
        raise error

    server = metrics.serve(0, ready, lambda: True)
    try:
        with socket.create_connection(("127.0.0.1", server.server_port)) as asks:
            asks.sendall(b"GET /readyz HTTP/1.1\r\n\r\n")
            assert asks.recv(1) == b""
    finally:
        server.shutdown()
        server.server_close()
    assert reached.is_set()
    assert capsys.readouterr() == ("", "")
    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == logged


def test_metrics_are_served() -> None:
    server = metrics.serve(0, lambda: True, lambda: True)
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{address}/metrics", timeout=5) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            assert b"trireme_leader" in answer.read()
        with opener.open(f"{address}/readyz", timeout=5) as answer:
            assert (answer.headers["Content-Type"], answer.read()) == ("text/plain", b"ok")
    finally:
        server.shutdown()
        server.server_close()
