"""What engines answer over the network, and what they do instead: HTTP on loopback, and a stand-in for Redis."""

import asyncio
import copy
import gzip
import json
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
import redis.asyncio
import redis.exceptions
from aiohttp import web
from operating import NAMESPACE, NOW, Result, cluster, group, owned

from trireme_operator.api import Key, Object
from trireme_operator.autoscale import sources
from trireme_operator.autoscale.loop import Autoscaler
from trireme_operator.autoscale.sources import Sources, Unreadable
from trireme_operator.engines.demand import Demand
from trireme_operator.plan.group import complete
from trireme_operator.store import Store

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# Only so that a test that would wait for ever fails.
_GUARD_SECONDS = 30
_SHORT = 0.05
_ADDRESS = "10.0.0.7"
_COMPONENTS = {"dask": "scheduler", "spark": "master", "celery": "broker"}
_RECORDED = Path(__file__).parent / "recorded" / "spark"
_DRIVERS = Path(__file__).parent / "recorded" / "spark-driver"

NUMBERS = {engine: cluster(engine) for engine in _COMPONENTS}
IDLE: Object = {"waiting": 0, "executing": 0, "threads": 0, "stored": 0, "held": 0, "workers": {}}


def service(item: Object, address: str | None = _ADDRESS, component: str = "", port: str = "") -> Object:
    name = f"{item['metadata']['name']}-{component or _COMPONENTS[item['spec']['engine']]}"
    spec: Object = {} if address is None else {"clusterIP": address}
    if port:
        spec["ports"] = [{"name": port}]
    return owned({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}, item)


def pod(name: str, ip: str = "", component: str = "worker", of: str = "numbers") -> Object:
    labels = {"app.kubernetes.io/instance": of, "app.kubernetes.io/component": component}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "status": {"podIP": ip} if ip else {},
    }


def driver(name: str = "driver", ip: str = "10.0.0.21", phase: str = "Running") -> Object:
    found = pod(name, ip, "driver")
    return {**found, "status": {**found["status"], "phase": phase}}


def store(*items: Object) -> Store:
    found = Store()
    for item in items:
        found.put(item)
    return found


def run(test: Callable[[], Awaitable[Result]]) -> Result:
    async def whole() -> Result:
        return await test()

    return asyncio.run(asyncio.wait_for(whole(), _GUARD_SECONDS))


class Asked(NamedTuple):
    """What a server was asked: `url` whole, as a proxy is."""

    url: str
    headers: dict[str, str]
    peer: Any


class Engine:
    """HTTP on loopback in place of every engine: answers as told, and the last answer for good."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Asked] = []
        self.answers: deque[Answer] = deque()
        self._monkeypatch = monkeypatch
        self._session = aiohttp.ClientSession

    def run(self, test: Callable[[Sources], Awaitable[Result]], *items: Object) -> Result:
        async def whole() -> Result:
            server = web.Server(self._answer, handler_cancellation=True, access_log=None)
            runner = web.ServerRunner(server, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.lead_to(runner.addresses[0][1])
            found = Sources(store(*items))
            try:
                return await test(found)
            finally:
                await found.close()
                await runner.cleanup()

        return run(whole)

    def lead_to(self, port: int) -> None:
        """Let all sessions be with one port on loopback, wherever they think they are."""
        there = partial(self._session, proxy=f"http://127.0.0.1:{port}")
        self._monkeypatch.setattr(aiohttp, "ClientSession", there)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport
        peer = request.transport.get_extra_info("peername")
        self.asked.append(Asked(request.raw_path, dict(request.headers), peer))
        return await (self.answers.popleft() if len(self.answers) > 1 else self.answers[0])(request)


def said(body: bytes | Object, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(
            body=text, status=status, headers={name.replace("_", "-"): headers[name] for name in headers}
        )

    return answer


def endless(piece: bytes, status: int = 200) -> Answer:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(piece)
        return response

    return answer


def hanging(*pieces: bytes) -> Answer:
    """Send something, and no more until the client is gone."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if pieces:
            response = web.StreamResponse()
            await response.prepare(request)
            for piece in pieces:
                await response.write(piece)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    return answer


def broken(text: bytes) -> Answer:
    """Send something that may be no HTTP, and hang up."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport
        request.transport.write(text)
        request.transport.close()
        return web.Response()

    return answer


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(monkeypatch)


def refusal(found: Sources, item: Object) -> Awaitable[Unreadable]:
    async def read() -> Unreadable:
        with pytest.raises(Unreadable) as problem:
            await found.read(item)
        return problem.value

    return read()


# What makes sense


def test_dask(engine: Engine) -> None:
    item = cluster("dask", status={"capacity": {"threads": "2"}})
    worker = {"processing": 2, "threads": 2, "stored": 0, "limit": 0}
    engine.answers.append(said({**IDLE, "waiting": 3, "executing": 2, "threads": 5, "workers": {"a": worker}}))
    found = engine.run(lambda sources: sources.read(item), service(item), item)
    assert found == Demand(3, 3, 2, slots=2, least=1, unit="tasks", costs={"a": 2 << 20})
    assert [asked.url for asked in engine.asked] == [f"http://{_ADDRESS}:8787/trireme/demand"]


def test_spark(engine: Engine) -> None:
    item = cluster("spark", status={"capacity": {"cores": "2"}})
    engine.answers += [
        said((_RECORDED / f"two-apps.{name}").read_bytes()) for name in ("json", "0000.html", "0001.html")
    ]
    pods = [
        pod("w-1", "127.0.0.11"),
        pod("w-2", "127.0.0.12"),
        pod("w-3"),
        pod("driver", "127.0.0.13", "driver"),
        pod("foreign", "127.0.0.13", of="others"),
    ]
    found = engine.run(lambda sources: sources.read(item), service(item), item, *pods)
    assert found == Demand(3, 0, 3, slots=1, least=3, unit="executors", costs={"w-1": 2, "w-2": 2})
    # Each application's own page.
    ids = [said["id"] for said in json.loads((_RECORDED / "two-apps.json").read_text())["activeapps"]]
    root = f"http://{_ADDRESS}:8080"
    assert len(ids) == 2
    assert [asked.url for asked in engine.asked] == [f"{root}/json/", *(f"{root}/app/?appId={id_}" for id_ in ids)]


def of_group(item: Object) -> Object:
    labels = {**item["metadata"]["labels"], "app.kubernetes.io/component": "group-worker", "trireme.dev/group": "big"}
    return {**item, "metadata": {**item["metadata"], "labels": labels}}


def test_dask_with_groups_is_asked_for_the_work_of_one(engine: Engine) -> None:
    own = cluster("dask", status={"capacity": {"threads": "2"}}, dask={"workerResources": {"SSD": 1}})
    big = group("big", status={"capacity": {"threads": "4"}}, dask={"workerResources": {"GPU": 2}})
    worker = {"processing": 1, "threads": 4, "stored": 0, "limit": 0}
    answer = {**IDLE, "group": "big", "waiting": 3, "executing": 2, "threads": 5, "workers": {"a": worker}}
    engine.answers += [said(answer), said({**IDLE, "group": ""}), said({**IDLE, "group": "big"}), said(IDLE)]

    async def test(found: Sources) -> Demand:
        demand = await found.read(complete(big, own))
        assert (await found.read(own)).is_nothing
        await found.news(complete(big, own), 0.01)
        # A scheduler that was started before there were groups tells all that there is.
        problem = await refusal(found, complete(big, own))
        assert "its pod is older than its chart" in str(problem)
        return demand

    found = engine.run(test, service(own), own, big)
    assert found == Demand(2, 3, 2, slots=4, least=1, unit="tasks", costs={"a": 1 << 20})
    queries = [dict(parse_qsl(urlsplit(asked.url).query, keep_blank_values=True)) for asked in engine.asked]
    assert [query["group"] for query in queries] == ["big", "", "big", "big"]
    assert queries[2]["wait"] == "0.01"
    offers = {
        "": {"threads": 2, "resources": {"SSD": 1}},
        "big": {"threads": 4, "resources": {"SSD": 1, "GPU": 2}},
    }
    assert all(json.loads(query["groups"]) == offers for query in queries)


@pytest.mark.parametrize(
    ("spec", "of_cluster", "resources"),
    [
        ({}, {}, {"GPU": 1}),
        ({"suspend": True}, {}, {}),
        ({}, {"suspend": True}, {}),
        ({"celery": {"queues": ["a"]}}, {}, {}),
        ({"values": {"replicas": 1}}, {}, {}),
    ],
)
def test_a_group_that_can_run_nothing_offers_nothing(
    engine: Engine, spec: Object, of_cluster: Object, resources: Object
) -> None:
    own = cluster("dask", **of_cluster)
    idle = group("idle", **{"dask": {"workerResources": {"GPU": 1}}, **spec})
    engine.answers.append(said({**IDLE, "group": ""}))
    engine.run(lambda found: found.read(own), service(own), own, idle)
    offers = json.loads(dict(parse_qsl(urlsplit(engine.asked[0].url).query))["groups"])
    # By its name, workers that it still has are told from the cluster's own.
    assert offers["idle"]["resources"] == resources


def test_a_group_that_grows_by_work_has_it_before_one_that_does_not(engine: Engine) -> None:
    own, offered = cluster("dask"), {"dask": {"workerResources": {"GPU": 1}}}
    told = {"maxReplicas": 2, "mode": "Observe"}
    groups = [
        group("a", **offered),
        group("b", **offered, autoscaling=told),
        group("c", **offered, autoscaling={"maxReplicas": 2}),
    ]
    engine.answers.append(said({**IDLE, "group": ""}))
    engine.run(lambda found: found.read(own), service(own), own, *groups)
    offers = json.loads(dict(parse_qsl(urlsplit(engine.asked[0].url).query))["groups"])
    assert [*offers] == ["", "c", "a", "b"]


def test_spark_sizes_the_clusters_own_workers_beside_those_of_groups(engine: Engine) -> None:
    item = cluster("spark", status={"capacity": {"cores": "2"}})
    engine.answers += [
        said((_RECORDED / f"two-apps.{name}").read_bytes()) for name in ("json", "0000.html", "0001.html")
    ]
    pods = [pod("w-1", "127.0.0.11"), of_group(pod("g-1", "127.0.0.12")), pod("w-3")]
    found = engine.run(lambda sources: sources.read(item), service(item), item, *pods)
    # Of three workers that are busy, one is a group's.
    assert found == Demand(2, 0, 3, slots=1, least=2, unit="executors", costs={"w-1": 2})


def test_a_group_on_a_broker_elsewhere_has_a_monitor_of_its_own(engine: Engine) -> None:
    own = cluster("celery")
    big = group("big", status={"capacity": {"processes": "2"}}, celery={"queues": ["a"]})
    engine.answers.append(said({"waiting": 3, "unacknowledged": 0, "held": {"w-1": 2, "g-1": 1}}))
    name = {"name": "big-monitor"}
    monitor = owned({"apiVersion": "v1", "kind": "Service", "metadata": name, "spec": {"clusterIP": "10.0.0.9"}}, big)
    theirs = service(own, component="monitor")
    pods = [pod("w-1"), of_group(pod("g-1"))]
    found = engine.run(lambda sources: sources.read(complete(big, own)), own, big, theirs, monitor, *pods)
    assert found == Demand(2, 3, 1, slots=2, least=1, unit="tasks", costs={"g-1": 1})
    assert [asked.url for asked in engine.asked] == ["http://10.0.0.9:8787/trireme/demand"]


def test_a_broker_elsewhere(engine: Engine) -> None:
    item = cluster("celery", status={"capacity": {"processes": "2"}})
    engine.answers.append(said({"waiting": 3, "unacknowledged": 0, "held": {"w-1": 2, "w-9": 1}}))
    monitor = service(item, component="monitor")
    found = engine.run(lambda sources: sources.read(item), monitor, item, pod("w-1"), pod("w-2"))
    assert found == Demand(3, 3, 2, slots=2, least=1, unit="tasks", costs={"w-1": 2})
    assert [asked.url for asked in engine.asked] == [f"http://{_ADDRESS}:8787/trireme/demand"]


def test_of_rabbitmq_the_monitor_tells(engine: Engine) -> None:
    item = cluster("celery", status={"capacity": {"threads": "2"}})
    engine.answers.append(said({"waiting": 3, "unacknowledged": 0, "held": {}}))
    broker, monitor = service(item, port="tcp-amqp"), service(item, component="monitor")
    found = engine.run(lambda sources: sources.read(item), broker, monitor, item)
    assert found == Demand(2, 3, 0, slots=2, least=0, unit="tasks", costs={})
    problem = engine.run(lambda sources: refusal(sources, item), broker, item)
    assert problem.reason == "NoControlPod"
    assert str(problem) == "there is no monitor, and RabbitMQ tells nobody else what waits"


def test_a_broker_elsewhere_that_cant_be_reached(engine: Engine) -> None:
    item = NUMBERS["celery"]
    engine.answers.append(said(b"the broker amqp://me:**@there//: refused\x00\n", 503))
    problem = engine.run(lambda sources: refusal(sources, item), service(item, component="monitor"))
    must_be_told(problem, "celery", "NoAnswer")
    assert str(problem) == "celery can't be asked: the broker amqp://me:**@there//: refused  "


def test_after_a_bad_page_of_spark_nobody_waits_for_the_others(engine: Engine) -> None:
    item = NUMBERS["spark"]
    engine.answers += [said((_RECORDED / "two-apps.json").read_bytes()), said(b"", 500), hanging()]

    async def test(found: Sources) -> None:
        assert (await refusal(found, item)).reason == "BadAnswer"
        await asyncio.sleep(0)
        assert not [task for task in asyncio.all_tasks() if "Sources" in repr(task.get_coro())]

    engine.run(test, service(item))
    assert len(engine.asked) == 3


def test_a_spark_cluster_without_workers_counts_by_what_one_will_offer(engine: Engine) -> None:
    item = cluster("spark", status={"capacity": {"cores": "4", "memory": "1000000000"}})
    engine.answers += [said((_RECORDED / f"capped-waiting.{name}").read_bytes()) for name in ("json", "0000.html")]
    found = engine.run(lambda sources: sources.read(item), service(item), item)
    # It may have 4 cores, which is one worker.
    assert (found.workers, found.waiting, found.slots, found.least) == (1, 1, 1, 0)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("10.96.1.2", "10.96.1.2"),
        # A cluster's network may be IPv6 only.
        ("fd00:10:96::a3f", "[fd00:10:96::a3f]"),
        (None, "numbers-scheduler.team.svc"),
    ],
)
def test_addresses(engine: Engine, address: str | None, host: str) -> None:
    item = NUMBERS["dask"]
    engine.answers.append(said(IDLE))
    engine.run(lambda sources: sources.read(item), service(item, address))
    assert engine.asked[0].url == f"http://{host}:8787/trireme/demand"


def test_one_connection_serves_many_questions(engine: Engine) -> None:
    item = NUMBERS["dask"]
    engine.answers += [said(IDLE), said(b"", 500), said(b"no"), said(b"", 302, Location="http://a"), said(IDLE)]

    async def test(found: Sources) -> None:
        for _ in range(5):
            with suppress(Unreadable):
                await found.read(item)

    engine.run(test, service(item))
    assert len(engine.asked) == 5
    assert len({asked.peer for asked in engine.asked}) == 1


def test_nothing_of_an_answer_is_kept(engine: Engine) -> None:
    item = NUMBERS["dask"]
    engine.answers.append(said(IDLE, Set_Cookie="a=b; Path=/"))

    async def test(found: Sources) -> None:
        await found.read(item)
        await found.read(item)

    # By a name: of an address that is a number no cookies are kept anyway.
    engine.run(test, service(item, None))
    assert len(engine.asked) == 2
    assert not any("Cookie" in asked.headers for asked in engine.asked)


# What does not


HTML = b"<!DOCTYPE html><html><head><title>Home</title></head></html>"
BAD: dict[str, tuple[Answer, str, str]] = {
    "500": (said(b"Internal Server Error", 500), "BadAnswer", "HTTP 500: b'Internal Server Error'"),
    "500 with the right words": (said(IDLE, 500), "BadAnswer", "HTTP 500"),
    "404": (said(b"", 404), "BadAnswer", "HTTP 404"),
    "204": (said(b"", 204), "BadAnswer", "HTTP 204"),
    "206": (said(IDLE, 206), "BadAnswer", "HTTP 206"),
    "redirect": (said(b"", 302, Location="http://10.0.0.8:8787/"), "BadAnswer", "HTTP 302"),
    "redirect in circles": (said(b"", 301, Location="/trireme/demand"), "BadAnswer", "HTTP 301"),
    "HTML": (said(HTML), "BadAnswer", "no JSON: b'<!DOCTYPE"),
    "nothing": (said(b""), "BadAnswer", "no JSON: b''"),
    "truncated": (said(json.dumps(IDLE).encode()[:-1]), "BadAnswer", "no JSON"),
    "two answers": (said(json.dumps(IDLE).encode() * 2), "BadAnswer", "no JSON"),
    "no text": (said(b"\xff\xfe\x00"), "BadAnswer", "no JSON"),
    "NaN": (said(b'{"waiting":NaN}'), "BadAnswer", "no JSON"),
    "out of range": (said(b'{"waiting":1e999}'), "BadAnswer", "no JSON"),
    "too many digits": (said(b'{"waiting":' + b"1" * 5000 + b"}"), "BadAnswer", "no JSON"),
    "nested without end": (said(b"[" * 200_000), "BadAnswer", "no JSON"),
    "packed": (said(gzip.compress(json.dumps(IDLE).encode()), Content_Encoding="gzip"), "BadAnswer", "no JSON"),
    "packed by an unknown way": (said(IDLE, Content_Encoding="br"), "", ""),
    "without end": (endless(b" " * 2**16), "BadAnswer", "more than 4194304 bytes"),
    "an error without end": (endless(b" " * 2**16, 500), "BadAnswer", "more than 4194304 bytes"),
    "no HTTP": (broken(b"\x00\x01\x02\r\n\r\n"), "NoAnswer", "can't be asked: "),
    "a header without end": (broken(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 2**17), "NoAnswer", "can't be asked: "),
    "hangs up": (broken(b""), "NoAnswer", "can't be asked: "),
    "hangs up early": (broken(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), "NoAnswer", "can't be asked: "),
}
FIELDS: list[object] = [-1, 10**9, 10**400, 1.5, True, None, "3", [], {}, "x" * 10**6, {"a": "\x00\x1b[31m"}]
# As many bytes, and no workers.
CAN_BE: list[tuple[str, object]] = [("stored", 10**9), ("workers", {})]


def must_be_told(problem: Unreadable, engine: str, reason: str) -> None:
    """A reason in one word, and words that name the engine and that a condition can hold."""
    message = str(problem)
    assert problem.reason == reason
    assert message.startswith(f"{engine} ")
    assert len(message) <= 400
    assert message.isprintable()


@pytest.mark.parametrize("name", ["dask", "spark"])
@pytest.mark.parametrize("case", [case for case in BAD if BAD[case][1]])
def test_a_bad_answer(engine: Engine, name: str, case: str) -> None:
    item = NUMBERS[name]
    answer, reason, words = BAD[case]
    engine.answers.append(answer)
    problem = engine.run(lambda sources: refusal(sources, item), service(item))
    must_be_told(problem, name, reason)
    assert words in str(problem)
    # One question, besides that a connection that breaks is tried once more: no redirect was followed.
    assert len(engine.asked) <= 2
    assert len({asked.url for asked in engine.asked}) == 1


def test_what_says_that_it_is_packed_and_is_not_is_read_as_it_is(engine: Engine) -> None:
    item = NUMBERS["dask"]
    engine.answers.append(BAD["packed by an unknown way"][0])
    assert engine.run(lambda sources: sources.read(item), service(item)).is_nothing
    assert engine.asked[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field in IDLE for value in FIELDS if (field, value) not in CAN_BE],
    ids=lambda value: f"{value!r:.20}",
)
def test_a_dask_scheduler_that_says_what_cant_be(engine: Engine, field: str, value: object) -> None:
    item = NUMBERS["dask"]
    engine.answers.append(said({**IDLE, field: value}))
    problem = engine.run(lambda sources: refusal(sources, item), service(item))
    must_be_told(problem, "dask", "BadAnswer")
    assert field in str(problem)


def test_nesting_that_can_just_be_read(engine: Engine) -> None:
    """Somewhere there it can be read, and not be told."""
    item = NUMBERS["dask"]
    depths = [500, *range(850, 1000)]
    engine.answers += [said(b'{"waiting":' + b"[" * depth + b"]" * depth + b"}") for depth in depths]

    async def test(found: Sources) -> list[Unreadable]:
        return [await refusal(found, item) for _ in depths]

    problems = engine.run(test, service(item))
    for problem in problems:
        must_be_told(problem, "dask", "BadAnswer")
    assert "waiting is [" in str(problems[0])
    assert "no JSON" in str(problems[-1])


@pytest.mark.parametrize("case", [case for case in BAD if BAD[case][1]])
def test_a_bad_page_of_an_application(engine: Engine, case: str) -> None:
    item = NUMBERS["spark"]
    answer, reason, _ = BAD[case]
    engine.answers += [said((_RECORDED / "backlog.json").read_bytes()), answer]
    problem = engine.run(lambda sources: refusal(sources, item), service(item))
    must_be_told(problem, "spark", reason)
    assert len(engine.asked) >= 2


@pytest.mark.parametrize("id_", ["", "../../kill", "a&appId=b", "a b", 1, None, "a" * 1000])
def test_an_application_that_cant_be_in_a_url_is_not_asked_for(engine: Engine, id_: object) -> None:
    item = NUMBERS["spark"]
    answer = json.loads((_RECORDED / "backlog.json").read_text())
    answer["activeapps"][0]["id"] = id_
    engine.answers.append(said(answer))
    must_be_told(engine.run(lambda sources: refusal(sources, item), service(item)), "spark", "BadAnswer")
    assert len(engine.asked) == 1


HANGS = {"at once": hanging(), "after its headers": hanging(b""), "within its answer": hanging(b'{"waiting":')}


@pytest.mark.parametrize("name", ["dask", "spark"])
@pytest.mark.parametrize("case", HANGS)
def test_an_engine_that_hangs(engine: Engine, monkeypatch: pytest.MonkeyPatch, name: str, case: str) -> None:
    monkeypatch.setattr(sources, "_SECONDS", _SHORT)
    item = NUMBERS[name]
    engine.answers.append(HANGS[case])
    problem = engine.run(lambda sources: refusal(sources, item), service(item))
    must_be_told(problem, name, "NoAnswer")
    assert str(problem) == f"{name} does not answer within 0.05 s"


def test_two_seconds_are_for_all_that_is_asked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def master(*_: object) -> object:
        return json.loads((_RECORDED / "backlog.json").read_text())

    monkeypatch.setattr(sources, "_SECONDS", _SHORT)
    monkeypatch.setattr(Sources, "_json", master)
    item = NUMBERS["spark"]
    engine.answers.append(hanging())
    problem = engine.run(lambda sources: refusal(sources, item), service(item))
    assert str(problem) == "spark does not answer within 0.05 s"


def test_an_engine_answers_again_after_all_that(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_SECONDS", _SHORT)
    item = NUMBERS["dask"]
    engine.answers += [*(answer for answer, reason, _ in BAD.values() if reason == "BadAnswer"), hanging(), said(IDLE)]

    async def test(found: Sources) -> Demand:
        while True:
            with suppress(Unreadable):
                return await found.read(item)

    assert engine.run(test, service(item)).is_nothing


class Scales:
    """A client that only lets a cluster be scaled."""

    def __init__(self, seen: Store) -> None:
        self.sizes: list[int] = []
        self._store = seen

    async def scale(self, cluster: Key, replicas: int) -> None:
        self.sizes.append(replicas)
        item = self._store.get(cluster)
        assert item
        generation = item["metadata"]["generation"] + 1
        metadata = {**item["metadata"], "generation": generation}
        self._store.put({**item, "metadata": metadata, "spec": {**item["spec"], "replicas": replicas}})

    async def set_deletion_cost(self, namespace: str, pod: str, cost: int) -> None:
        raise AssertionError

    async def record(self, event: Object) -> None:
        assert event["reason"] == "Scaled"


def test_no_bad_answer_shrinks_a_cluster(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor grows it; nor does the first that makes sense after them, but by what it says."""
    at_once = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    item = cluster(autoscaling={"minReplicas": 0, "maxReplicas": 50, "behavior": at_once})
    controllers = [
        owned({"kind": "Deployment", "metadata": {"name": f"numbers-{name}"}, "status": {"readyReplicas": 1}}, item)
        for name in ("scheduler", "worker")
    ]
    bad = [
        *HANGS.values(),
        *(answer for answer, reason, _ in BAD.values() if reason),
        *(said({**IDLE, field: value}) for field in IDLE for value in FIELDS if (field, value) not in CAN_BE),
    ]
    engine.answers += [said({**IDLE, "threads": 8, "waiting": 8}), *bad, said({**IDLE, "threads": 7, "waiting": 7})]

    async def test(found: Sources) -> list[int]:
        seen = found._store
        client = Scales(seen)
        scaler = Autoscaler(seen, client, found, lambda _: None, lambda: NOW)

        async def look() -> tuple[str, str] | None:
            now = seen.get(Key("WorkerCluster", NAMESPACE, "numbers"))
            assert now
            monkeypatch.setattr(sources, "_SECONDS", _SHORT if engine.answers[0] in HANGS.values() else _GUARD_SECONDS)
            await scaler.look(now)
            told = scaler.said(now)
            assert told
            return told.problem

        assert await look() is None
        # As often as it takes: after some that break off it is asked again at once.
        while problem := await look():
            assert problem[0] in ("BadAnswer", "NoAnswer")
            assert client.sizes == [8]
        return client.sizes

    assert engine.run(test, item, service(item), *controllers) == [8, 7]
    assert len(engine.asked) == len(bad) + 2


@pytest.fixture
def closed_port() -> Any:
    """A port on which nobody listens, and nobody else will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("name", ["dask", "spark"])
def test_an_engine_that_is_not_there(engine: Engine, closed_port: int, name: str) -> None:
    item = NUMBERS[name]

    async def test() -> Unreadable:
        engine.lead_to(closed_port)
        found = Sources(store(service(item)))
        try:
            return await refusal(found, item)
        finally:
            await found.close()

    problem = run(test)
    must_be_told(problem, name, "NoAnswer")
    assert "can't be asked: Cannot connect" in str(problem)


@pytest.mark.parametrize("name", _COMPONENTS)
@pytest.mark.parametrize("whose", ["nobody's", "an earlier namesake's", "elsewhere"])
def test_without_a_service_of_its_own_nobody_is_asked(name: str, whose: str) -> None:
    item = NUMBERS[name]
    there = {
        "nobody's": [],
        "an earlier namesake's": [service({**item, "metadata": {**item["metadata"], "uid": "uid-earlier"}})],
        "elsewhere": [{**service(item), "metadata": {**service(item)["metadata"], "namespace": "other"}}],
    }[whose]
    problem = run(lambda: refusal(Sources(store(*there)), item))
    assert problem.reason == "NoControlPod"
    service_ = f"numbers-{_COMPONENTS[name]}"
    assert str(problem) == f"there is no Service {service_}: a {_COMPONENTS[name]} elsewhere can't be asked"


@pytest.mark.parametrize("answers_first", [False, True])
def test_who_asks_can_be_cancelled(monkeypatch: pytest.MonkeyPatch, answers_first: bool) -> None:
    """At the moment of the answer, too: wait_for of Python 3.11 would go on then."""
    item = NUMBERS["dask"]

    async def test() -> None:
        begun, answer = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def ask(_: Sources, url: str) -> object:
            begun.set()
            return await answer

        monkeypatch.setattr(Sources, "_json", ask)
        task = asyncio.create_task(Sources(store(service(item))).read(item))
        await begun.wait()
        if answers_first:
            answer.set_result(IDLE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test)


# Spark's drivers


MASTER, DRIVER = f"http://{_ADDRESS}:8080", "http://10.0.0.21:4040"
JSON_OF_MASTER, PAGE, METRICS = f"{MASTER}/json/", f"{MASTER}/app/", f"{DRIVER}/metrics/json/"


class Drivers:
    """A master and a driver at the addresses that their URLs say, with answers of one recording; others' by the URL."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        master = json.loads((_DRIVERS / name / "master.json").read_text())
        self.application = master["activeapps"][0]["id"]
        self.api = f"{DRIVER}/api/v1/applications/{self.application}"
        self.environment, self.stages = f"{self.api}/environment", f"{self.api}/stages"
        files = {
            JSON_OF_MASTER: "master.json",
            PAGE: "page.html",
            METRICS: "metrics.json",
            self.environment: "environment.json",
            self.stages: "stages.json",
        }
        self.answers = {url: said((_DRIVERS / name / file).read_bytes()) for url, file in files.items()}
        engine.answers.append(self._answer)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self.answers[request.raw_path.partition("?")[0]](request)

    def read(self, *pods: Object) -> tuple[int, int, int, int]:
        """Return the workers, what waits and what runs, and how often anybody was asked."""
        item = cluster("spark", status={"capacity": {"cores": "2", "memory": str(1000 * 2**20)}})
        asked = len(self._engine.asked)
        found = self._engine.run(lambda sources: sources.read(item), service(item), item, *pods)
        return found.workers, found.waiting, found.running, len(self._engine.asked) - asked

    def asked(self) -> set[str]:
        return {asked.url for asked in self._engine.asked} - {JSON_OF_MASTER, f"{PAGE}?appId={self.application}"}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For answers that come, however slow this machine is."""
    for name in ("_SECONDS", "_DRIVER_SECONDS"):
        monkeypatch.setattr(sources, name, _GUARD_SECONDS)


@pytest.mark.usefixtures("patient")
def test_a_spark_driver_tells_what_its_master_will_hear_in_a_second(engine: Engine) -> None:
    drivers = Drivers(engine, "busy")
    assert drivers.read()[:3] == (1, 0, 1)
    assert drivers.read(driver())[:3] == (3, 2, 1)
    assert drivers.asked() == {METRICS, drivers.environment, f"{drivers.stages}?status=active"}


@pytest.mark.usefixtures("patient")
def test_a_spark_driver_whose_metrics_do_not_name_its_application(engine: Engine) -> None:
    """So the chart has them called; where a driver is, its application's page tells."""
    drivers = Drivers(engine, "busy")
    metrics = (_DRIVERS / "busy" / "metrics.json").read_text().replace(drivers.application, "spark")
    page = (_DRIVERS / "busy" / "page.html").read_text().replace("http://127.0.0.1:4040", DRIVER)
    drivers.answers[METRICS] = said(metrics.encode())
    drivers.answers[f"{DRIVER}/api/v1/applications"] = said([{"id": drivers.application}])
    assert drivers.read(driver())[:3] == (1, 0, 1)
    drivers.answers[PAGE] = said(page.encode())
    assert drivers.read(driver())[:3] == (3, 2, 1)


@pytest.mark.usefixtures("patient")
def test_a_connect_server_is_a_driver(engine: Engine) -> None:
    server = {**driver(), **pod("connect", "10.0.0.21", "connect")}
    server["status"] = {**server["status"], "phase": "Running"}
    assert Drivers(engine, "busy").read(server)[:3] == (3, 2, 1)


@pytest.mark.usefixtures("patient")
def test_a_spark_driver_without_executors_is_not_asked_how_long_its_tasks_take(engine: Engine) -> None:
    drivers = Drivers(engine, "none")
    assert drivers.read()[:3] == (0, 0, 0)
    # One of 3 that would be of use: its first answer to that takes it long, and the others are asked for soon enough.
    assert drivers.read(driver())[:3] == (1, 1, 0)
    assert drivers.asked() == {METRICS}


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("name", ["idle", "fixed"])
def test_a_spark_driver_that_is_not_behind_is_asked_no_more(engine: Engine, name: str) -> None:
    drivers = Drivers(engine, "busy")
    drivers.answers[METRICS] = said((_DRIVERS / name / "metrics.json").read_bytes())
    assert drivers.read(driver()) == (1, 0, 1, 3)
    assert drivers.asked() == {METRICS}


@pytest.mark.usefixtures("patient")
def test_what_a_spark_driver_asked_for_counts_though_its_master_has_forgotten_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    drivers = Drivers(engine, "none")
    item = cluster("spark", status={"capacity": {"cores": "2", "memory": str(1000 * 2**20)}})
    metrics = json.loads((_DRIVERS / "none" / "metrics.json").read_text())
    target = next(name for name in metrics["gauges"] if name.endswith("numberTargetExecutors"))
    asked, heard = copy.deepcopy(metrics), metrics
    asked["gauges"][target]["value"] = 3

    async def test(found: Sources) -> None:
        drivers.answers[METRICS] = said(asked)
        first = await found.read(item)
        assert (first.workers, first.waiting, first.running) == (3, 3, 0)
        # It may be on its way.
        assert first.remark == ""
        monkeypatch.setattr(sources, "_HEARD_SECONDS", 0.0)
        assert drivers.application in (await found.read(item)).remark
        monkeypatch.setattr(sources, "_HEARD_SECONDS", _GUARD_SECONDS)
        drivers.answers[METRICS] = said(heard)
        assert (await found.read(item)).remark == ""
        # From here on it is another time.
        drivers.answers[METRICS] = said(asked)
        assert (await found.read(item)).remark == ""

    engine.run(test, service(item), item, driver())


@pytest.mark.usefixtures("patient")
def test_a_spark_driver_of_an_application_that_its_master_does_not_know(engine: Engine) -> None:
    drivers = Drivers(engine, "busy")
    metrics = (_DRIVERS / "busy" / "metrics.json").read_text().replace(drivers.application, "app-other")
    drivers.answers[METRICS] = said(metrics.encode())
    other = f"{DRIVER}/api/v1/applications/app-other"
    drivers.answers[f"{other}/environment"] = drivers.answers[drivers.environment]
    drivers.answers[f"{other}/stages"] = drivers.answers[drivers.stages]
    assert drivers.read(driver()) == (1, 0, 1, 5)


@pytest.mark.parametrize(
    "pods",
    [
        [driver(phase="Pending")],
        # Somebody else may have its address by now.
        [driver(phase="Succeeded")],
        [driver(phase="Failed")],
        [driver(ip="")],
        [{**driver(), "status": {}}],
        [{name: value for name, value in driver().items() if name != "status"}],
        [{**driver(), "metadata": pod("driver", of="others")["metadata"]}],
        [{**driver(), "metadata": pod("worker")["metadata"]}],
    ],
)
def test_who_is_no_running_driver_of_the_cluster_is_not_asked(engine: Engine, pods: list[Object]) -> None:
    drivers = Drivers(engine, "busy")
    assert drivers.read(*pods) == (1, 0, 1, 2)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("which", ["metrics", "environment", "stages"])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_answer_of_a_spark_driver_changes_nothing(engine: Engine, which: str, case: str) -> None:
    drivers = Drivers(engine, "busy")
    url = {"metrics": METRICS, "environment": drivers.environment, "stages": drivers.stages}[which]
    drivers.answers[url] = BAD[case][0]
    assert drivers.read(driver())[:3] == (1, 0, 1)
    assert any(asked.startswith(url) for asked in drivers.asked())


@pytest.mark.parametrize("which", ["metrics", "environment", "stages"])
@pytest.mark.parametrize("case", HANGS)
def test_a_spark_driver_that_hangs_changes_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, which: str, case: str
) -> None:
    monkeypatch.setattr(sources, "_SECONDS", _GUARD_SECONDS)
    monkeypatch.setattr(sources, "_DRIVER_SECONDS", _SHORT)
    drivers = Drivers(engine, "busy")
    url = {"metrics": METRICS, "environment": drivers.environment, "stages": drivers.stages}[which]
    drivers.answers[url] = HANGS[case]
    assert drivers.read(driver())[:3] == (1, 0, 1)


def test_a_slow_spark_driver_is_not_hung_up_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_DRIVER_SECONDS", _SHORT)
    drivers = Drivers(engine, "busy")
    answers, prompt, complete = drivers.answers[drivers.environment], asyncio.Event(), []

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        await prompt.wait()
        complete.append(request)
        return await answers(request)

    drivers.answers[drivers.environment] = slow
    item = cluster("spark", status={"capacity": {"cores": "2", "memory": str(1000 * 2**20)}})

    async def test(found: Sources) -> None:
        for _ in range(2):
            assert (await found.read(item)).workers == 1
        # The same question is not asked twice meanwhile.
        assert [asked.url for asked in engine.asked].count(METRICS) == 1
        monkeypatch.setattr(sources, "_DRIVER_SECONDS", _GUARD_SECONDS)
        prompt.set()
        assert (await found.read(item)).workers == 3
        assert len(complete) == 1
        assert (await found.read(item)).workers == 3
        assert [asked.url for asked in engine.asked].count(METRICS) == 2

    engine.run(test, service(item), item, driver())


def test_a_spark_driver_that_never_answers_is_hung_up_on_in_the_end(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_DRIVER_SECONDS", _SHORT)
    monkeypatch.setattr(sources, "_LONGEST_DRIVER_SECONDS", 2 * _SHORT)
    drivers = Drivers(engine, "busy")
    drivers.answers[METRICS] = hanging()
    item = cluster("spark", status={"capacity": {"cores": "2", "memory": str(1000 * 2**20)}})

    async def test(found: Sources) -> None:
        while [asked.url for asked in engine.asked].count(METRICS) < 2:
            assert (await found.read(item)).workers == 1

    engine.run(test, service(item), item, driver())


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("value", FIELDS, ids=lambda value: f"{value!r:.20}")
@pytest.mark.parametrize("name", ["numberMaxNeededExecutors", "numberTargetExecutors", "numberAllExecutors"])
def test_a_spark_driver_that_says_what_cant_be(engine: Engine, name: str, value: object) -> None:
    drivers = Drivers(engine, "busy")
    metrics = json.loads((_DRIVERS / "busy" / "metrics.json").read_text())
    (gauge,) = [gauge for gauge in metrics["gauges"] if gauge.endswith(name)]
    metrics["gauges"][gauge] = {"value": value}
    drivers.answers[METRICS] = said(metrics)
    assert drivers.read(driver()) == (1, 0, 1, 3)


@pytest.mark.usefixtures("patient")
def test_a_spark_driver_that_is_not_there(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    get = Sources._get

    async def refused(self: Sources, url: str) -> bytes:
        if url.startswith(DRIVER):
            raise aiohttp.ClientConnectionError("Connect call failed")
        return await get(self, url)

    monkeypatch.setattr(Sources, "_get", refused)
    assert Drivers(engine, "busy").read(driver()) == (1, 0, 1, 2)


@pytest.mark.usefixtures("patient")
def test_a_spark_master_and_all_drivers_are_asked_at_the_same_time(engine: Engine) -> None:
    """Nobody answers before all have been asked; and one that knows nothing hides nobody else."""
    drivers = Drivers(engine, "busy")
    arrived: set[str] = set()
    all_there = asyncio.Event()
    answers = dict(drivers.answers)
    answers["http://10.0.0.22:4040/metrics/json/"] = said(b"", 404)

    def together(url: str) -> Answer:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            arrived.add(url)
            if len(arrived) == 3:
                all_there.set()
            await all_there.wait()
            return await answers[url](request)

        return answer

    drivers.answers |= {url: together(url) for url in (JSON_OF_MASTER, METRICS, "http://10.0.0.22:4040/metrics/json/")}
    assert drivers.read(driver(), driver("other", "10.0.0.22"))[:3] == (3, 2, 1)


@pytest.mark.usefixtures("patient")
def test_where_a_spark_master_fails_its_drivers_are_not_waited_for(engine: Engine) -> None:
    drivers, hung_up = Drivers(engine, "busy"), asyncio.Event()

    async def hang(_: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            hung_up.set()
        raise AssertionError

    async def fail(request: web.BaseRequest) -> web.StreamResponse:
        await asked.wait()
        return await said(b"", 500)(request)

    asked = asyncio.Event()
    drivers.answers |= {METRICS: hang, JSON_OF_MASTER: fail}
    item = NUMBERS["spark"]

    async def test(found: Sources) -> Unreadable:
        problem = await refusal(found, item)
        await hung_up.wait()
        return problem

    must_be_told(engine.run(test, service(item), driver()), "spark", "BadAnswer")


# Celery


class Broker:
    """In place of redis.asyncio.Redis, as far as that is used: answers by what it holds."""

    made: list["Broker"]
    holds: dict[str, Any]
    raises: BaseException | None
    hangs: bool

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.is_closed = False
        self.asked: list[tuple[str, object]] = []
        self.made.append(self)

    async def _answer(self, *commands: tuple[str, Any]) -> list[Any]:
        assert not self.is_closed
        self.asked += commands
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.raises:
            raise self.raises
        return [
            [self.holds.get(name) for name in what] if verb == "mget" else self.holds.get(what, 0)
            for verb, what in commands
        ]

    async def hgetall(self, name: str) -> Any:
        await self._answer(("hgetall", name))
        return self.holds.get(name, {})

    def pipeline(self, transaction: bool) -> "Pipe":
        assert not transaction
        return Pipe(self)

    async def aclose(self) -> None:
        self.is_closed = True


class Pipe:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._commands: list[tuple[str, Any]] = []

    async def __aenter__(self) -> "Pipe":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def llen(self, name: str) -> None:
        self._commands.append(("llen", name.encode().decode()))

    def hlen(self, name: str) -> None:
        self._commands.append(("hlen", name))

    def mget(self, names: list[str]) -> None:
        assert names
        self._commands.append(("mget", names))

    async def execute(self) -> Any:
        answers = await self._broker._answer(*self._commands)
        return self._broker.holds.get("answers", answers)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> type[Broker]:
    fresh = type("Fresh", (Broker,), {"made": [], "holds": {}, "raises": None, "hangs": False})
    monkeypatch.setattr(redis.asyncio, "Redis", fresh)
    return fresh


CELERY = cluster("celery", status={"capacity": {"processes": "2"}})
WORK = {"lists": json.dumps(["celery", "celery\x06\x163"]), "unacked": "unacked"}


def asks(*items: Object, of: Object = CELERY) -> Unreadable | Demand:
    async def test() -> Unreadable | Demand:
        found = Sources(store(service(of), *items))
        try:
            return await found.read(of)
        except Unreadable as problem:
            return problem
        finally:
            await found.close()

    return run(test)


def test_celery(broker: type[Broker]) -> None:
    broker.holds = {
        "trireme.work": WORK,
        "celery": 4,
        "celery\x06\x163": 3,
        "unacked": 2,
        "trireme.active.a": "2",
        "trireme.active.c": "9",
    }
    found = asks(pod("a"), pod("b"), pod("c", component="broker"), pod("d", of="others"))
    assert found == Demand(5, waiting=7, running=2, slots=2, least=1, unit="tasks", costs={"a": 2})
    (made,) = broker.made
    assert made.is_closed
    assert made.asked == [
        ("hgetall", "trireme.work"),
        ("llen", "celery"),
        ("llen", "celery\x06\x163"),
        ("hlen", "unacked"),
        ("mget", ["trireme.active.a", "trireme.active.b"]),
    ]
    # As a user without a password, who may do no more than that.
    assert (made.options["host"], made.options["username"], made.options["password"]) == (_ADDRESS, "demand", "")


def test_celery_before_any_worker_ran(broker: type[Broker]) -> None:
    item = cluster("celery", celery={"queues": ["a", "b"]})
    broker.holds = {"a": 1, "b\x06\x169": 2}
    found = asks(of=item)
    assert found == Demand(3, waiting=3, running=0, slots=1, least=0, unit="tasks")
    # Redis refuses an MGET of nothing.
    assert len(broker.made[0].asked) == 1 + 20 + 1


RAISED = [
    redis.exceptions.ConnectionError("Error 111 connecting to 10.0.0.7:6379. Connection refused."),
    redis.exceptions.ConnectionError(),
    redis.exceptions.TimeoutError("Timeout reading from 10.0.0.7:6379"),
    redis.exceptions.AuthenticationError("invalid username-password pair or user is disabled."),
    redis.exceptions.NoPermissionError("this user has no permissions to run the 'hgetall' command"),
    redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
    redis.exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
    redis.exceptions.InvalidResponse("Protocol Error: b'HTTP/1.1 400'"),
    ConnectionResetError(104, "Connection reset by peer"),
    BrokenPipeError(),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: f"{type(error).__name__}-{error}"[:40])
def test_a_broker_that_cant_be_asked(broker: type[Broker], error: Exception) -> None:
    broker.raises = error
    problem = asks()
    assert isinstance(problem, Unreadable)
    must_be_told(problem, "celery", "NoAnswer")
    assert str(problem) == f"celery can't be asked: {str(error) or type(error).__name__}"


def test_a_broker_that_hangs(broker: type[Broker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_SECONDS", _SHORT)
    broker.hangs = True
    problem = asks()
    assert isinstance(problem, Unreadable)
    must_be_told(problem, "celery", "NoAnswer")
    assert str(problem) == "celery does not answer within 0.05 s"


@pytest.mark.parametrize(
    "holds",
    [
        {"celery": -1},
        {"celery": 10**9},
        {"celery": 1.5},
        {"celery": True},
        {"celery": None},
        {"celery": "3"},
        {"unacked": -1},
        {"unacked": 10**9},
        {"unacked": []},
        {"trireme.active.a": "-1"},
        {"trireme.active.a": "1000000000"},
        {"trireme.active.a": "9" * 5000},
        {"trireme.active.a": "x" * 10**6},
        {"trireme.active.a": 1},
        {"trireme.active.a": ""},
        {"trireme.work": {"lists": "["}},
        {"trireme.work": {"lists": "[]"}},
        {"trireme.work": {"unacked": "unacked"}},
        {"trireme.work": {**WORK, "lists": "{}"}},
        {"trireme.work": {**WORK, "lists": "[1]"}},
        {"trireme.work": {**WORK, "lists": "[" * 200_000}},
        {"trireme.work": {**WORK, "lists": "9" * 5000}},
        {"trireme.work": {**WORK, "lists": json.dumps(["a"] * 1001)}},
        # No text: it can't be sent.
        {"trireme.work": {**WORK, "lists": r'["\ud800"]'}},
        # What only a server that is no Redis can say.
        {"trireme.work": 3},
        {"trireme.work": ["lists"]},
        {"trireme.work": {"lists": 3, "unacked": 4}},
        {"answers": []},
        {"answers": [0, 0, 0]},
        {"answers": [0, 0, 0, []]},
        {"answers": [0, 0, 0, 7]},
        {"answers": [0, 0, 0, ["1", "2"]]},
        {"answers": None},
    ],
    ids=lambda holds: f"{holds!r:.50}",
)
def test_a_broker_that_says_what_cant_be(broker: type[Broker], holds: Object) -> None:
    broker.holds = {"trireme.work": WORK, **holds}
    problem = asks(pod("a"))
    assert isinstance(problem, Unreadable)
    must_be_told(problem, "celery", "BadAnswer")


@pytest.mark.parametrize(
    "error",
    [
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ValueError("invalid literal for int() with base 10: b'x'"),
        TypeError("unhashable type: 'list'"),
        IndexError("list index out of range"),
        AttributeError("'NoneType' object has no attribute 'decode'"),
        RecursionError("maximum recursion depth exceeded"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_answer_at_which_the_client_itself_fails(broker: type[Broker], error: Exception) -> None:
    broker.raises = error
    problem = asks()
    assert isinstance(problem, Unreadable)
    must_be_told(problem, "celery", "BadAnswer")
    # It is known what went wrong.
    assert type(error).__name__ in str(problem)


def test_connections_to_brokers_are_kept_and_closed(broker: type[Broker]) -> None:
    one, two = cluster("celery", "one"), cluster("celery", "two")

    async def test() -> None:
        found = Sources(store(service(one), service(two, "10.0.0.9")))
        for item in (one, two, one):
            await found.read(item)
        assert [made.options["host"] for made in broker.made] == [_ADDRESS, "10.0.0.9"]
        await found.forget("uid-one")
        await found.forget("uid-one")
        await found.forget("uid-of-nobody")
        assert [made.is_closed for made in broker.made] == [True, False]
        await found.read(one)
        assert len(broker.made) == 3
        await found.close()
        assert all(made.is_closed for made in broker.made)

    run(test)


def test_a_broker_whose_service_was_made_anew_is_found_again(broker: type[Broker]) -> None:
    async def test() -> None:
        seen = store(service(CELERY))
        found = Sources(seen)
        await found.read(CELERY)
        seen.put(service(CELERY, "10.0.0.8"))
        await found.read(CELERY)
        assert [(made.options["host"], made.is_closed) for made in broker.made] == [
            (_ADDRESS, True),
            ("10.0.0.8", False),
        ]
        # The address of one that is gone may be another cluster's by now.
        seen.remove(Key("Service", NAMESPACE, "numbers-broker"))
        asked = len(broker.made[1].asked)
        assert (await refusal(found, CELERY)).reason == "NoControlPod"
        assert len(broker.made[1].asked) == asked
        await found.close()

    run(test)


@pytest.mark.parametrize("error", [OSError("gone"), redis.exceptions.ConnectionError("gone")])
def test_a_connection_that_cant_be_closed_is_forgotten(
    broker: type[Broker], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fails(_: Broker) -> None:
        raise error

    async def test() -> None:
        found = Sources(store(service(CELERY)))
        await found.read(CELERY)
        monkeypatch.setattr(broker, "aclose", fails)
        await found.forget("uid-numbers")
        assert found._brokers == {}

    run(test)


def with_real_client(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setattr(redis.asyncio, "Redis", partial(redis.asyncio.Redis, port=port))


def asks_on_loopback() -> Awaitable[Unreadable]:
    async def test() -> Unreadable:
        found = Sources(store(service(CELERY, "127.0.0.1")))
        try:
            return await refusal(found, CELERY)
        finally:
            await found.close()

    return test()


def test_a_broker_that_is_not_there(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """At once: that it refuses, not that it does not answer."""
    with_real_client(monkeypatch, closed_port)
    problem = run(asks_on_loopback)
    must_be_told(problem, "celery", "NoAnswer")
    assert "Connect call failed" in str(problem)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "NoAnswer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "NoAnswer"),
        (b"-ERR unknown command\r\n" * 9, "NoAnswer"),
        (b"-WRONGPASS invalid username-password pair\r\n" * 9, "NoAnswer"),
        (b"-LOADING Redis is loading the dataset in memory\r\n" * 9, "NoAnswer"),
        (b":x\r\n" * 9, "BadAnswer"),
        (b"*1\r\n" * 5000, "BadAnswer"),
    ],
)
def test_what_listens_is_no_broker(monkeypatch: pytest.MonkeyPatch, text: bytes, reason: str) -> None:
    async def test() -> Unreadable:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(text)
            writer.close()

        async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
            with_real_client(monkeypatch, server.sockets[0].getsockname()[1])
            return await asks_on_loopback()

    must_be_told(run(test), "celery", reason)


def test_a_broker_that_accepts_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_SECONDS", _SHORT)

    async def test() -> Unreadable:
        gone = asyncio.Event()

        async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                await reader.read()
            writer.close()
            gone.set()

        async with await asyncio.start_server(be_silent, "127.0.0.1", 0) as server:
            with_real_client(monkeypatch, server.sockets[0].getsockname()[1])
            problem = await asks_on_loopback()
            # It was hung up on.
            await gone.wait()
        return problem

    problem = run(test)
    must_be_told(problem, "celery", "NoAnswer")
    assert "does not answer within 0.05 s" in str(problem)
