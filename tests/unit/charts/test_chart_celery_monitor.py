"""What counts a Celery cluster's work where the broker is elsewhere, by Celery's own memory transport."""

import json
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from charting import CHARTS, NAME, Render, container, environment

pytest.importorskip("celery", reason="celery is not installed: uv sync")

from amqp import AccessRefused
from celery import Celery, signals
from celery.worker import state
from celery.worker.request import Request
from kombu.exceptions import OperationalError

sys.path.insert(0, str(CHARTS / "celery" / "files"))
_before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
trireme_app, trireme_holdings, trireme_metrics, trireme_monitor = (
    import_module(name) for name in ("trireme_app", "trireme_holdings", "trireme_metrics", "trireme_monitor")
)
sys.dont_write_bytecode = _before
EVENT, Holdings = trireme_holdings.EVENT, trireme_holdings.Holdings
Tasks = trireme_metrics.Tasks
Held, Monitor, Queues = trireme_monitor.Held, trireme_monitor.Monitor, trireme_monitor.Queues
Unknown, Waiting = trireme_monitor.Unknown, trireme_monitor.Waiting

LIMIT = 30


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def app(request: pytest.FixtureRequest) -> Celery:
    # Its broker is this process's, and other tests use it, too.
    return Celery(request.node.name, broker="memory://", set_as_current=False)


def heard() -> Held:
    held = Held()
    held.listens()
    return held


@pytest.fixture(autouse=True)
def _all_are_heard_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trireme_monitor, "HEARD_SECONDS", 0)
    monkeypatch.setattr(trireme_monitor, "ANSWER_SECONDS", LIMIT)


class TestQueues:
    def test_what_waits_is_counted(self, app: Celery) -> None:
        queues = Queues(app, ["one-queue", "other-queue"])
        # Nobody has sent anything yet.
        assert queues.count() == Waiting(0, 0)
        for _ in range(3):
            app.send_task("work", queue="one-queue")
        app.send_task("work", queue="other-queue")
        app.send_task("work", queue="nobody's-queue")
        assert queues.count() == Waiting(4, 0)

    def test_a_broker_that_cant_be_reached_is_named_without_its_password(self) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{closed.getsockname()[1]}"
            app = Celery(broker=f"amqp://me:secret@{address}//", set_as_current=False)
            queues = Queues(app, ["celery"])
            for _ in range(2):
                with pytest.raises(Unknown, match=f"the broker amqp://me:.*@{address}//: .*refused") as told:
                    queues.count()
                assert "secret" not in str(told.value)

    def test_a_broker_that_hangs_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trireme_monitor, "ANSWER_SECONDS", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as hangs:
            app = Celery(broker=f"amqp://127.0.0.1:{hangs.getsockname()[1]}//", set_as_current=False)
            queues = Queues(app, ["celery"])
            for _ in range(2):
                with pytest.raises(Unknown, match=r"does not answer within 0\.2 s"):
                    queues.count()

    def test_a_connection_that_broke_is_made_anew(self, app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
        queues = Queues(app, ["anew-queue"])
        app.send_task("work", queue="anew-queue")
        assert queues.count() == Waiting(1, 0)

        def breaks(*_: Any, **__: Any) -> None:
            raise ConnectionResetError("gone")

        with monkeypatch.context() as broken:
            broken.setattr(queues._channel, "queue_declare", breaks)
            with pytest.raises(Unknown, match=r"the broker memory://.*: gone"):
                queues.count()
        assert queues.count() == Waiting(1, 0)


class TestHeld:
    def test_the_last_word_of_a_worker_counts_for_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trireme_monitor, "HEARD_SECONDS", 3)
        now = 100.0
        held = Held(lambda: now)
        with pytest.raises(Unknown, match="nothing was heard yet"):
            held.by_pod()
        held.listens()
        held.says({"hostname": "worker@a", "held": 2})
        with pytest.raises(Unknown, match="yet to say"):
            held.by_pod()
        now = 103.0
        held.says({"hostname": "b", "held": 0})
        assert held.by_pod() == {"a": 2, "b": 0}
        held.says({"hostname": "worker@a", "held": 1})
        now = 132.9
        assert held.by_pod() == {"a": 1, "b": 0}
        now = 133.0
        assert held.by_pod() == {}

    def test_a_worker_that_goes_holds_nothing(self) -> None:
        held = heard()
        held.says({"hostname": "worker@a", "held": 2})
        held.goes({"hostname": "worker@a"})
        held.goes({"hostname": "worker@b"})
        assert held.by_pod() == {}

    def test_who_is_deaf_tells_nothing(self) -> None:
        held = heard()
        held.says({"hostname": "worker@a", "held": 2})
        held.is_deaf("the broker is gone")
        with pytest.raises(Unknown, match="the broker is gone"):
            held.by_pod()
        held.listens()
        assert held.by_pod() == {"a": 2}

    def test_events_are_heard(self, app: Celery) -> None:
        held, tasks = Held(), Tasks()
        threading.Thread(target=trireme_monitor.keep_listening, args=[app, held, tasks], daemon=True).start()
        until(lambda: held._since is not None)
        with app.connection_for_write() as connection, app.events.Dispatcher(connection, hostname="worker@a") as says:
            says.send("worker-heartbeat", active=1)
            says.send(EVENT, held=7)
            says.send("task-received", uuid="1", name="eat")
            until(lambda: held.by_pod() == {"a": 7})
            until(lambda: 'celery_worker_tasks_active{hostname="worker@a"} 1\n' in tasks.text({}))
            until(lambda: 'celery_task_received_total{name="eat"} 1\n' in tasks.text({}))
            says.send("worker-offline")
            until(lambda: held.by_pod() == {})

    def test_a_broker_that_cant_be_heard_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trireme_monitor, "RETRY_SECONDS", LIMIT)
        held = heard()
        app = Celery(broker="amqp://me:secret@127.0.0.1:1//", set_as_current=False)
        threading.Thread(target=trireme_monitor.keep_listening, args=[app, held, Tasks()], daemon=True).start()
        until(lambda: held._since is None)
        with pytest.raises(Unknown, match=r"the broker amqp://me:\*\*@127.0.0.1:1//: .*refused"):
            held.by_pod()


class Eventer(list[int]):
    """What a worker said that it holds."""

    def send(self, kind: str, held: int) -> None:
        assert kind == EVENT
        self.append(held)


def a_request(eta: str | None = None) -> Any:
    request = Request.__new__(Request)
    request._eta = eta
    return request


class Worker:
    """A worker's state, and the signals that it sends."""

    def __init__(self) -> None:
        self.said = Eventer()
        self.holdings = Holdings()
        self.timer = SimpleNamespace(schedule=SimpleNamespace(queue=[]))

    def receives(self, eta: str | None = None, notes: bool = True) -> Any:
        request = a_request(eta)
        self.holdings.on_received(sender=SimpleNamespace(event_dispatcher=self.said), request=request)
        if eta is None:
            state.reserved_requests.add(request)
        elif notes:
            state.scheduled_requests.add(request)
        else:
            self.timer.schedule.queue.append(SimpleNamespace(entry=SimpleNamespace(args=(request,))))
        return request

    def beats(self) -> None:
        self.holdings.on_heartbeat(sender=SimpleNamespace(timer=self.timer, eventer=self.said))


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(Request, "eta", property(lambda request: request._eta))
    yield Worker()
    state.reset_state()


class TestHoldings:
    def test_more_is_said_at_once_and_less_with_a_heartbeat(self, worker: Worker) -> None:
        worker.beats()
        first, _second = worker.receives(), worker.receives()
        assert worker.said == [0, 1, 2]
        state.reserved_requests.discard(first)
        _third = worker.receives()
        # As many as were told of already.
        assert worker.said == [0, 1, 2]
        state.reserved_requests.discard(_third)
        worker.beats()
        assert worker.said == [0, 1, 2, 1]

    @pytest.mark.parametrize("notes", [True, False])
    def test_those_that_wait_for_their_time_count(
        self, worker: Worker, notes: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker.timer.schedule.queue.append(SimpleNamespace(entry=SimpleNamespace(args=())))
        worker.timer.schedule.queue.append(SimpleNamespace(entry=SimpleNamespace(args=("worker-heartbeat",))))
        with monkeypatch.context() as older:
            if not notes:
                # As before Celery 5.7.
                older.delattr(state, "scheduled_requests")
            _kept = [worker.receives("soon", notes), worker.receives("later", notes), worker.receives()]
            assert worker.said == [1, 2, 3]
            worker.beats()
            assert worker.said[-1] == 3

    def test_it_hears_the_workers_signals(self) -> None:
        before = len(signals.heartbeat_sent.receivers), len(signals.task_received.receivers)
        trireme_holdings.tell()
        assert (len(signals.heartbeat_sent.receivers), len(signals.task_received.receivers)) == (
            before[0] + 1,
            before[1] + 1,
        )
        signals.heartbeat_sent.receivers.pop()
        signals.task_received.receivers.pop()


class Counts:
    """Queues whose number of tasks a test sets."""

    def __init__(self) -> None:
        self.waiting, self.unacknowledged, self.problem = 0, 0, ""
        self.asked = threading.Semaphore(0)

    def count(self) -> Waiting:
        self.asked.release()
        if self.problem:
            raise Unknown(self.problem)
        return Waiting(self.waiting, self.unacknowledged)

    def lengths(self) -> dict[str, int]:
        return {"celery": self.count().ready}


class Server:
    def __init__(self) -> None:
        self.counts, self.held = Counts(), heard()
        self.monitor = Monitor(("127.0.0.1", 0), self.counts, self.held, Tasks())  # type: ignore[arg-type]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor.server_port}{path}", timeout=LIMIT) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as problem:
            return problem.code, problem.read().decode()


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.monitor.serve_forever, args=[0.01], daemon=True).start()
    yield server
    server.monitor.shutdown()
    server.monitor.server_close()


class TestMonitor:
    def test_it_tells_what_waits_and_who_holds_what(self) -> None:
        with serving() as server:
            server.counts.waiting, server.counts.unacknowledged = 3, 2
            server.held.says({"hostname": "worker@a", "held": 1})
            status, text = server.get("/trireme/demand")
            assert (status, json.loads(text)) == (200, {"waiting": 3, "unacknowledged": 2, "held": {"a": 1}})

    @pytest.mark.parametrize("what", ["waiting", "unacknowledged", "held"])
    def test_who_waits_is_told_when_there_is_work(self, what: str) -> None:
        with serving() as server:
            told: list[tuple[int, str]] = []
            waits = threading.Thread(target=lambda: told.append(server.get("/trireme/demand?wait=600")))
            waits.start()
            for _ in range(2):
                assert server.counts.asked.acquire(timeout=LIMIT)
            assert not told
            if what == "held":
                server.held.says({"hostname": "worker@a", "held": 1})
            else:
                setattr(server.counts, what, 1)
            waits.join(LIMIT)
            [(status, text)] = told
            assert status == 200
            assert json.loads(text)[what] in (1, {"a": 1})

    def test_who_waits_is_told_of_nothing_in_the_end(self) -> None:
        with serving() as server:
            server.held.says({"hostname": "worker@a", "held": 0})
            status, text = server.get("/trireme/demand?wait=0.1")
            assert (status, json.loads(text)) == (200, {"waiting": 0, "unacknowledged": 0, "held": {"a": 0}})

    @pytest.mark.parametrize("query", ["", "?wait=600"])
    def test_it_tells_why_it_cant_tell(self, query: str) -> None:
        with serving() as server:
            server.counts.problem = "the broker is gone"
            assert server.get(f"/trireme/demand{query}") == (503, "the broker is gone")
            # That is no reason to start it again.
            server.held.is_deaf("the broker is gone")
            assert server.get("/healthz") == server.get("/alive") == (200, "ok")

    def test_it_is_started_again_where_its_password_is_refused(self) -> None:
        """Still it tells why it can't tell, and once it is let in all is well."""
        with serving() as server:
            server.held.is_deaf("WRONGPASS", is_refused=True)
            assert server.get("/alive") == (503, "refused")
            assert server.get("/healthz") == (200, "ok")
            server.held.listens()
            assert server.get("/alive") == (200, "ok")

    def test_a_refusal_is_known_by_what_connecting_raises(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Ends(Exception):
            pass

        def refuses(*_: object) -> None:
            raise OperationalError from AccessRefused()

        def ends(_: float) -> None:
            raise Ends

        monkeypatch.setattr(trireme_monitor, "listen", refuses)
        monkeypatch.setattr(trireme_monitor.time, "sleep", ends)
        held = Held()
        with pytest.raises(Ends):
            trireme_monitor.keep_listening(Celery(broker="memory://", set_as_current=False), held, Tasks())
        assert held.is_refused()

    @pytest.mark.parametrize("wait", ["-1", "nan", "x" * 1000])
    def test_a_wait_that_is_no_number_of_seconds_is_refused(self, wait: str) -> None:
        with serving() as server:
            status, text = server.get(f"/trireme/demand?wait={wait}")
            assert status == 400
            assert text.startswith(f"wait is '{wait[:80]}'")

    def test_there_is_nothing_else(self) -> None:
        with serving() as server:
            assert server.get("/") == (404, "there are only /trireme/demand and /metrics")

    def test_metrics_are_there_whatever_the_broker_does(self) -> None:
        with serving() as server:
            server.counts.waiting = 3
            status, text = server.get("/metrics")
            assert status == 200
            assert "celery_broker_up 1\n" in text
            assert 'celery_queue_length{queue_name="celery"} 3\n' in text
            server.counts.problem = "the broker is gone"
            status, text = server.get("/metrics")
            assert status == 200
            assert "celery_broker_up 0\n" in text
            assert "celery_queue_length{" not in text


def samples(text: str) -> dict[str, float]:
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in text.splitlines()) if name[0] != "#"
    }


class TestTasks:
    def test_a_task_from_its_sending_to_its_end(self) -> None:
        tasks = Tasks()
        eta = datetime.fromtimestamp(104, UTC).isoformat()
        tasks.task({"type": "task-sent", "uuid": "1", "name": "eat", "queue": "fast", "timestamp": 100.0})
        tasks.task({"type": "task-sent", "uuid": "2", "name": "eat", "queue": "fast", "timestamp": 100.0, "eta": eta})
        for uuid in "12":
            tasks.task({"type": "task-received", "uuid": uuid, "name": "eat", "timestamp": 104.5})
            tasks.task({"type": "task-started", "uuid": uuid, "timestamp": 104.7})
        tasks.task({"type": "task-succeeded", "uuid": "1", "runtime": 2.5, "timestamp": 107.2})
        tasks.task({"type": "task-failed", "uuid": "2", "exception": "ValueError('a\\nb')", "timestamp": 107.2})
        found = samples(tasks.text({}))
        # What was to wait for its time has waited since then.
        assert found['celery_task_queue_wait_time_bucket{name="eat",queue_name="fast",le="0.5"}'] == 0
        assert found['celery_task_queue_wait_time_bucket{name="eat",queue_name="fast",le="1"}'] == 1
        assert found['celery_task_queue_wait_time_bucket{name="eat",queue_name="fast",le="+Inf"}'] == 2
        assert found['celery_task_queue_wait_time_sum{name="eat",queue_name="fast"}'] == pytest.approx(5.4)
        assert found['celery_task_runtime_sum{name="eat"}'] == 2.5
        assert found['celery_task_started_total{name="eat"}'] == 2
        assert found['celery_task_succeeded_total{name="eat"}'] == 1
        assert found['celery_task_failed_total{name="eat",exception="ValueError"}'] == 1
        assert not tasks._tasks

    def test_a_task_of_which_nothing_was_heard_before(self) -> None:
        tasks = Tasks()
        tasks.task({"type": "task-started", "uuid": "1", "timestamp": 1.0})
        tasks.task({"type": "task-retried", "uuid": "1", "exception": "OSError()", "timestamp": 2.0})
        found = samples(tasks.text({}))
        assert found['celery_task_retried_total{name="unknown",exception="OSError"}'] == 1
        assert not [name for name in found if name.startswith("celery_task_queue_wait_time")]

    def test_only_so_many_are_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trireme_metrics, "MOST_TASKS", 2)
        tasks = Tasks()
        for uuid in "123":
            tasks.task({"type": "task-sent", "uuid": uuid, "name": "eat", "timestamp": 1.0})
        assert [*tasks._tasks] == ["2", "3"]

    def test_a_worker_that_says_nothing_is_down(self) -> None:
        now = 0.0
        tasks = Tasks(lambda: now)
        tasks.heartbeat({"hostname": "worker@a", "active": 2})
        tasks.heartbeat({"hostname": "worker@b", "active": 0})
        tasks.offline({"hostname": "worker@b"})
        assert samples(tasks.text({}))['celery_worker_tasks_active{hostname="worker@a"}'] == 2
        assert 'hostname="worker@b"' not in tasks.text({})
        now = 31.0
        assert "hostname=" not in tasks.text({})

    def test_names_of_any_kind(self) -> None:
        assert r'celery_queue_length{queue_name="a\"\\\n"} 1' in Tasks().text({'a"\\\n': 1})


def test_the_application_is_configured_as_for_workers(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks_of_a_test.py").write_text(
        "from celery import Celery\n"
        "app = Celery('tasks', broker='redis://nowhere', set_as_current=False)\n"
        "app.conf.worker_prefetch_multiplier = 7\n"
        "app.conf.worker_concurrency = 9\n"
    )
    (tmp_path / "defaults.json").write_text('{"worker_prefetch_multiplier": 1, "task_acks_late": true}')
    (tmp_path / "config.json").write_text('{"worker_concurrency": 2}')
    monkeypatch.setattr(trireme_app, "CONF", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    conf = trireme_app.load("tasks_of_a_test").conf
    assert (conf.worker_prefetch_multiplier, conf.worker_concurrency, conf.task_acks_late) == (7, 2, True)
    assert conf.worker_disable_prefetch is True


@pytest.mark.parametrize(
    ("group", "broker", "expected"),
    [
        ("", "redis://nowhere", {**trireme_app.CONNECTING, "visibility_timeout": 5}),
        (
            "big",
            "redis://nowhere",
            {
                **trireme_app.CONNECTING,
                "visibility_timeout": 5,
                "unacked_key": "unacked.big",
                "unacked_index_key": "unacked_index.big",
                "unacked_mutex_key": "unacked_mutex.big",
            },
        ),
        # Its client would refuse them.
        ("big", "amqp://nowhere", {"visibility_timeout": 5, "confirm_publish": True}),
    ],
)
def test_what_a_group_holds_is_noted_apart(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, group: str, broker: str, expected: Any
) -> None:
    (tmp_path / "tasks_of_a_group.py").write_text(
        "from celery import Celery\n"
        f"app = Celery('tasks', broker={broker!r}, set_as_current=False)\n"
        "app.conf.broker_transport_options = {'visibility_timeout': 5}\n"
    )
    for name in ("defaults.json", "config.json"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr(trireme_app, "CONF", tmp_path)
    monkeypatch.setattr(trireme_app, "GROUP", group)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tasks_of_a_group", raising=False)
    assert trireme_app.load("tasks_of_a_group").conf.broker_transport_options == expected


@pytest.mark.parametrize("broker", [{"url": "amqp://a"}, {"existingSecret": "rabbit"}])
def test_a_monitor_is_as_a_worker_is(render: Render, broker: Any) -> None:
    values = {"broker": broker, "queues": ["fast", "slow"], "app": "shop", "env": [{"name": "SHOP", "value": "1"}]}
    assert ("Deployment", f"{NAME}-monitor") not in render("celery", values)
    objects = render("celery", {**values, "monitor": {"enabled": True}})
    monitor, worker = (objects["Deployment", f"{NAME}-{name}"] for name in ("monitor", "worker"))
    assert container(monitor)["command"][2:] == ["shop", "--queues=fast,slow"]
    assert environment(monitor) == environment(worker)
    for name in ("image", "volumeMounts", "securityContext"):
        assert container(monitor)[name] == container(worker)[name]
    assert monitor["spec"]["template"]["spec"]["volumes"] == worker["spec"]["template"]["spec"]["volumes"]
    assert objects["Service", f"{NAME}-monitor"]["spec"]["ports"][0]["port"] == trireme_monitor.PORT


@pytest.mark.parametrize(
    ("values", "runs"),
    [
        ({"monitor": {"demand": True}}, False),
        ({"monitor": {"enabled": True}}, True),
        ({"monitor": {"demand": True}, "broker": {"type": "rabbitmq"}}, True),
        ({"monitor": {"demand": True}, "broker": {"url": "redis://a"}}, True),
        ({"broker": {"type": "rabbitmq"}}, False),
    ],
)
def test_a_redis_of_the_charts_own_needs_no_monitor(render: Render, values: Any, runs: bool) -> None:
    assert any(name.endswith("-monitor") for _, name in render("celery", values)) is runs
