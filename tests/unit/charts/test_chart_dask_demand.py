"""What a Dask scheduler says of its work, with real schedulers and workers in this process."""

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from charting import CHARTS

pytest.importorskip("distributed", reason="distributed is not installed: uv sync")

from distributed import Client, Event, Scheduler, Worker, secede
from distributed.core import Status
from distributed.utils_test import async_poll_for, block_on_event, gen_cluster
from tornado.httpclient import AsyncHTTPClient, HTTPError

from trireme_operator.engines.dask import demand
from trireme_operator.engines.demand import Demand

SCRIPT = CHARTS / "dask" / "files" / "trireme_demand.py"
MI = 2**20
LIMIT = 2**30
NOTHING = {"group": "", "waiting": 0, "executing": 0, "threads": 0, "stored": 0, "held": 0}
DURATIONS = {"short": "5ms", "odd": "1100ms", "long": "10s", "endless": "1000s"}
ONE, TWO = [("127.0.0.1", 1)], [("127.0.0.1", 2)]
GPU = [("127.0.0.1", 1, {"resources": {"GPU": 1}})]

Answer = dict[str, Any]


@pytest.fixture(autouse=True)
def _no_bytecode_beside_the_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def cluster(nthreads: list[Any], **config: Any) -> Callable[[Any], Any]:
    return gen_cluster(
        nthreads=nthreads,
        client=True,
        scheduler_kwargs={"preload": [str(SCRIPT)], "dashboard_address": "127.0.0.1:0", "dashboard": False},
        # No heartbeat, which tells how long tasks have run, while a test counts with what it set.
        worker_kwargs={"memory_limit": LIMIT, "heartbeat_interval": "1h"},
        config={
            "distributed.scheduler.default-task-durations": DURATIONS,
            # Workers count the memory of this process as theirs.
            "distributed.worker.memory.pause": False,
            **config,
        },
    )


async def ask(scheduler: Scheduler, query: str = "") -> Answer:
    answer = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{scheduler.http_server.port}/trireme/demand{query}")
    assert answer.headers["Content-Type"].startswith("application/json")
    found: Answer = json.loads(answer.body)
    understood(found)
    return found


def understood(answer: Answer, threads: int = 1) -> Demand:
    return demand(answer, {"threads": str(threads), "memory": str(LIMIT)})


async def until(scheduler: Scheduler, **states: int) -> None:
    """Wait for so many tasks in these states."""

    def reached() -> bool:
        found = [ts.state.replace("-", "_") for ts in scheduler.tasks.values()]
        return all(found.count(state) == number for state, number in states.items())

    await async_poll_for(reached, timeout=20)


def names(prefix: str, number: int) -> list[str]:
    return [f"{prefix}-{i}" for i in range(number)]


def echo(given: Any) -> Any:
    return given


def secede_and_wait(event: Event) -> None:
    secede()
    event.wait()


def blob(size: int) -> bytes:
    return b"x" * size


class Counter:
    pass


@asynccontextmanager
async def blocked(
    client: Client, prefix: str, number: int, function: Any = block_on_event, **where: Any
) -> AsyncIterator[Any]:
    """Have tasks that go on until the end of the block."""
    event = Event(client=client)
    futures = client.map(function, [event] * number, key=names(prefix, number), **where)
    try:
        yield futures
    finally:
        await event.set()


@cluster([])
async def test_nobody_and_nothing(client: Client, scheduler: Scheduler) -> None:
    answer = await ask(scheduler)
    assert answer == {**NOTHING, "workers": {}}
    assert understood(answer).is_nothing


@cluster([("127.0.0.1", 1), ("127.0.0.1", 3)])
async def test_idle_workers(client: Client, scheduler: Scheduler, *_: Worker) -> None:
    answer = await ask(scheduler)
    idle = {"processing": 0, "stored": 0, "limit": LIMIT}
    assert answer == {**NOTHING, "workers": {"0": {**idle, "threads": 1}, "1": {**idle, "threads": 3}}}
    assert understood(answer).is_nothing


@pytest.mark.parametrize(
    ("tasks", "threads"),
    [
        # A thread each, and no more than that, whatever they take.
        ({"long": 20}, 20),
        ({"endless": 3}, 3),
        # 10 s of work in all.
        ({"short": 2000}, 2),
        ({"short": 1}, 1),
        # Nothing is known: half a second, as Dask has it.
        ({"unheard": 100}, 10),
        ({"unheard": 1}, 1),
        # 11 and a hair, as computers add.
        ({"odd": 50}, 11),
        # The endless ones lend the short ones nothing.
        ({"short": 2000, "endless": 3}, 5),
    ],
    ids=str,
)
@cluster([])
async def test_queue_without_workers(client: Client, scheduler: Scheduler, tasks: dict[str, int], threads: int) -> None:
    total = sum(tasks.values())
    # As one graph, and not as rootish tasks of their own, so that the order is the scheduler's.
    futures = [client.map(echo, range(number), key=names(prefix, number)) for prefix, number in tasks.items()]
    await until(scheduler, queued=total)
    assert await ask(scheduler) == {**NOTHING, "waiting": total, "threads": threads, "workers": {}}
    del futures


@cluster([], **{"distributed.adaptive.target-duration": "20s"})
async def test_target_duration(client: Client, scheduler: Scheduler) -> None:
    futures = client.map(echo, range(20), key=names("long", 20))
    await until(scheduler, queued=20)
    assert (await ask(scheduler))["threads"] == 10
    del futures


@cluster(TWO)
async def test_busy_worker(client: Client, scheduler: Scheduler, worker: Worker) -> None:
    async with blocked(client, "long", 10) as futures:
        await until(scheduler, processing=3, queued=7)
        answer = await ask(scheduler)
        assert (answer["executing"], answer["waiting"], answer["threads"]) == (2, 8, 10)
        assert answer["workers"]["0"]["processing"] == 3
        asked = understood(answer, threads=2)
        assert (asked.workers, asked.least, asked.running, asked.waiting) == (5, 1, 2, 8)
    await client.gather(futures)
    assert (await ask(scheduler))["threads"] == 0


@cluster(TWO)
async def test_durations_are_learnt(client: Client, scheduler: Scheduler, worker: Worker) -> None:
    async with blocked(client, "unheard", 10):
        await until(scheduler, processing=3, queued=7)
        assert (await ask(scheduler))["threads"] == 1
        # As a heartbeat says it.
        scheduler.task_prefixes["unheard"].add_exec_time(3)
        assert (await ask(scheduler))["threads"] == 10


@cluster(ONE)
async def test_seceded_task_takes_no_thread(client: Client, scheduler: Scheduler, worker: Worker) -> None:
    async with blocked(client, "long", 3, secede_and_wait):
        (ws,) = scheduler.workers.values()
        await async_poll_for(lambda: len(ws.long_running) == 3, timeout=20)
        answer = await ask(scheduler)
        assert (answer["executing"], answer["waiting"], answer["threads"]) == (3, 0, 1)
        assert understood(answer).least == 1


@cluster(TWO)
async def test_results(client: Client, scheduler: Scheduler, worker: Worker) -> None:
    futures = client.map(blob, [MI, 4 * MI], key=names("long", 2))
    await client.gather(futures)
    answer = await ask(scheduler)
    assert answer["held"] == 2
    assert answer["stored"] == 5 * MI
    assert answer["workers"]["0"]["stored"] == answer["stored"]
    asked = understood(answer)
    assert (asked.workers, asked.least, asked.costs, asked.is_nothing) == (1, 1, {"0": 5}, False)
    del futures
    await async_poll_for(lambda: not scheduler.tasks, timeout=20)
    assert understood(await ask(scheduler)).is_nothing


@cluster([("127.0.0.1", 1), ("127.0.0.1", 1)])
async def test_actor_keeps_its_worker(client: Client, scheduler: Scheduler, *workers: Worker) -> None:
    actor = await client.submit(Counter, actor=True, workers=[workers[0].address])
    answer = await ask(scheduler)
    assert (answer["waiting"], answer["executing"], answer["threads"]) == (0, 0, 0)
    assert [answer["workers"][name]["processing"] for name in "01"] == [1, 0]
    asked = understood(answer)
    assert asked.least == 1
    assert asked.costs["0"] > 2**20
    del actor


@cluster(ONE)
async def test_what_no_worker_can_run(client: Client, scheduler: Scheduler, worker: Worker) -> None:
    futures = client.map(echo, range(20), key=names("long", 20), resources={"GPU": 1})
    await until(scheduler, no_worker=20)
    assert (await ask(scheduler)).items() > NOTHING.items()
    # Nor does it help to begin again from none.
    await worker.close()
    await until(scheduler, no_worker=20)
    await async_poll_for(lambda: not scheduler.workers, timeout=20)
    assert await ask(scheduler) == {
        **NOTHING,
        # They came after the worker, so another one may be unlike it.
        "waiting": 20,
        "threads": 20,
        "workers": {},
    }
    async with Worker(scheduler.address, nthreads=1, name="other"):
        assert (await ask(scheduler)).items() > NOTHING.items()
    await async_poll_for(lambda: not scheduler.workers, timeout=20)
    assert await ask(scheduler) == {**NOTHING, "workers": {}}
    del futures


@cluster([])
async def test_resources_that_workers_may_have(client: Client, scheduler: Scheduler) -> None:
    futures = client.map(echo, range(20), key=names("long", 20), resources={"GPU": 1})
    await until(scheduler, no_worker=20)
    answer = await ask(scheduler)
    assert (answer["waiting"], answer["threads"]) == (20, 20)
    async with Worker(scheduler.address, nthreads=1, resources={"GPU": 1}):
        await client.gather(futures)


@cluster(GPU)
async def test_work_of_a_crashed_worker(client: Client, scheduler: Scheduler, worker: Worker) -> None:
    """Another worker like the one that had it helps, although that came before it."""
    async with blocked(client, "long", 1, resources={"GPU": 1}):
        await until(scheduler, processing=1)
        await scheduler.remove_worker(worker.address, stimulus_id="crash")
        await until(scheduler, no_worker=1)
        answer = await ask(scheduler)
        assert (answer["waiting"], answer["threads"]) == (1, 1)


@cluster(GPU)
async def test_work_of_a_paused_worker(client: Client, scheduler: Scheduler, worker: Worker) -> None:
    (ws,) = scheduler.workers.values()
    worker.status = Status.paused
    await async_poll_for(lambda: ws.status == Status.paused, timeout=20)
    futures = [
        client.submit(echo, 1, key="long-0", resources={"GPU": 1}),
        client.submit(echo, 2, key="long-1", resources={"GPU": 2}),
    ]
    await until(scheduler, no_worker=2)
    answer = await ask(scheduler)
    assert (answer["waiting"], answer["threads"]) == (1, 1)
    assert answer["workers"]["0"]["threads"] == 0
    assert understood(answer).workers == 2
    del futures


@pytest.mark.parametrize("nthreads", [[], ONE])
def test_pinned_tasks_want_no_workers(nthreads: list[Any]) -> None:
    @cluster(nthreads)
    async def run(client: Client, scheduler: Scheduler, *_: Worker) -> None:
        futures = [
            client.submit(echo, 1, workers=["10.0.0.1:1234"]),
            client.submit(echo, 2, workers=["somebody"]),
        ]
        await until(scheduler, no_worker=2)
        assert (await ask(scheduler)).items() > NOTHING.items()
        del futures

    run()


@cluster([])
async def test_pinned_tasks_that_others_may_have(client: Client, scheduler: Scheduler) -> None:
    future = client.submit(echo, 1, workers=["10.0.0.1:1234"], allow_other_workers=True)
    await until(scheduler, no_worker=1)
    assert (await ask(scheduler))["threads"] == 1
    del future


@cluster([])
async def test_few_among_many_without_hope(client: Client, scheduler: Scheduler) -> None:
    """The newest count, however many wait in vain."""
    pinned = client.map(echo, range(450), workers=["10.0.0.1:1234"])
    await until(scheduler, no_worker=450)
    others = client.map(echo, range(50), key=names("long", 50), resources={"GPU": 1})
    await until(scheduler, no_worker=500)
    answer = await ask(scheduler)
    # Half of those that were looked at.
    assert (answer["waiting"], answer["threads"]) == (250, 250)
    del pinned, others


@cluster([("127.0.0.1", 1), ("127.0.0.1", 1)])
async def test_leaving_worker(client: Client, scheduler: Scheduler, leaving: Worker, staying: Worker) -> None:
    async with blocked(client, "long", 3, workers=[leaving.address]):
        await until(scheduler, processing=3)
        leaving.status = Status.closing_gracefully
        ws = scheduler.workers[leaving.address]
        await async_poll_for(lambda: ws.status == Status.closing_gracefully, timeout=20)
        answer = await ask(scheduler)
        # It goes on with one, on a thread that nobody else can use; the others have to run elsewhere.
        assert (answer["executing"], answer["waiting"], answer["threads"]) == (1, 2, 2)
        assert answer["workers"].keys() == {"1"}
        asked = understood(answer)
        assert (asked.workers, asked.least, asked.running) == (2, 0, 1)


@cluster(TWO)
async def test_paused_worker(client: Client, scheduler: Scheduler, worker: Worker) -> None:
    async with blocked(client, "long", 5):
        await until(scheduler, processing=3, queued=2)
        (ws,) = scheduler.workers.values()
        worker.status = Status.paused
        await async_poll_for(lambda: ws.status == Status.paused, timeout=20)
        answer = await ask(scheduler)
        assert (answer["executing"], answer["waiting"], answer["threads"]) == (2, 3, 3)
        assert answer["workers"]["0"] == {"processing": 3, "threads": 0, "stored": 0, "limit": LIMIT}
        # Two workers for three tasks, beside the one that takes none.
        asked = understood(answer, threads=2)
        assert (asked.workers, asked.least) == (3, 1)


# Who waits for news


def waiters(scheduler: Scheduler) -> set[Any]:
    found: set[Any] = scheduler.plugins["trireme-demand"]._waiting
    return found


async def waiting(scheduler: Scheduler, number: int = 1) -> list["asyncio.Task[Answer]"]:
    """Have so many wait, for longer than a test may take."""
    tasks = [asyncio.create_task(ask(scheduler, "?wait=60")) for _ in range(number)]
    await async_poll_for(lambda: len(waiters(scheduler)) == number, timeout=20)
    return tasks


@cluster([])
async def test_work_that_comes_is_news_to_all_who_wait(client: Client, scheduler: Scheduler) -> None:
    tasks = await waiting(scheduler, 5)
    futures = client.map(echo, range(20), key=names("long", 20))
    answers = await asyncio.gather(*tasks)
    # Once it is where it belongs.
    assert answers == [{**NOTHING, "waiting": 20, "threads": 20, "workers": {}}] * 5
    assert not waiters(scheduler)
    del futures


@cluster(ONE)
async def test_workers_that_come_and_go_are_news(client: Client, scheduler: Scheduler, worker: Worker) -> None:
    (task,) = await waiting(scheduler)
    async with Worker(scheduler.address, nthreads=1, name="other"):
        assert (await task)["workers"].keys() == {"0", "other"}
        (task,) = await waiting(scheduler)
    assert (await task)["workers"].keys() == {"0"}


@cluster(TWO)
async def test_nobody_waits_beside_work(client: Client, scheduler: Scheduler, worker: Worker) -> None:
    """Nor for what came between two questions: it is there at the second."""
    async with blocked(client, "long", 2):
        await until(scheduler, processing=2)
        assert (await ask(scheduler, "?wait=60"))["executing"] == 2


@cluster(ONE)
async def test_what_no_worker_can_run_is_no_work(client: Client, scheduler: Scheduler, worker: Worker) -> None:
    futures = client.map(echo, range(20), key=names("long", 20), resources={"GPU": 1})
    await until(scheduler, no_worker=20)
    (task,) = await waiting(scheduler)
    async with Worker(scheduler.address, nthreads=1, name="other"):
        assert (await task)["waiting"] == 0
    del futures


@cluster([])
async def test_without_news_the_answer_comes_in_time(client: Client, scheduler: Scheduler) -> None:
    assert await ask(scheduler, "?wait=0.05") == {**NOTHING, "workers": {}}
    assert await ask(scheduler, "?wait=0") == {**NOTHING, "workers": {}}
    assert not waiters(scheduler)


@cluster([])
async def test_who_hangs_up_is_waited_for_no_more(client: Client, scheduler: Scheduler) -> None:
    (task,) = await waiting(scheduler)
    _, writer = await asyncio.open_connection("127.0.0.1", scheduler.http_server.port)
    writer.write(b"GET /trireme/demand?wait=60 HTTP/1.1\r\nHost: a\r\n\r\n")
    await async_poll_for(lambda: len(waiters(scheduler)) == 2, timeout=20)
    writer.close()
    await async_poll_for(lambda: len(waiters(scheduler)) == 1, timeout=20)
    # And nobody else is disturbed.
    assert not task.done()
    async with Worker(scheduler.address, nthreads=1):
        await task


@cluster([])
async def test_a_scheduler_that_ends_keeps_nobody_waiting(client: Client, scheduler: Scheduler) -> None:
    (task,) = await waiting(scheduler)
    await scheduler.close()
    with suppress(OSError, HTTPError):
        await task
    assert not waiters(scheduler)


@pytest.mark.parametrize("text", ["-1", "-0.001", "nan", "soon", "", "1s", "0x10", "-inf", "%00", "9" * 1000 + "x"])
@cluster([])
async def test_a_wait_that_is_no_time(client: Client, scheduler: Scheduler, text: str) -> None:
    with pytest.raises(HTTPError) as refused:
        await ask(scheduler, f"?wait={text}")
    assert refused.value.code == 400
    assert refused.value.response
    assert refused.value.response.headers["Content-Type"].startswith("text/plain")
    message = refused.value.response.body.decode()
    assert message.startswith("wait is '")
    assert message.endswith("', where a number of seconds should be: 0 or more")
    assert len(message) < 200


@pytest.mark.parametrize("text", ["61", "1e9", "inf", "9" * 1000])
@cluster([])
async def test_a_wait_has_a_longest_time(client: Client, scheduler: Scheduler, text: str) -> None:
    demand_of = inspect.getmodule(type(scheduler.plugins["trireme-demand"]))
    assert demand_of
    demand_of.LONGEST_WAIT_SECONDS = 0.05
    assert await ask(scheduler, f"?wait={text}") == {**NOTHING, "workers": {}}


OF_THE_USER = """
import os
def dask_setup(scheduler):
    print("port", scheduler.http_server.port, flush=True)
"""


@pytest.fixture
def started(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A scheduler as the chart starts it, and the line that the user's own preload prints."""
    (tmp_path / "mine.py").write_text(OF_THE_USER)
    preload = json.dumps(request.param).replace("mine", str(tmp_path / "mine.py"))
    (tmp_path / "dask.yaml").write_text(f"distributed: {{scheduler: {preload}}}")
    environment = {**os.environ, "DASK_CONFIG": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(SCRIPT), "--host=127.0.0.1", "--port=0", "--dashboard-address=127.0.0.1:0"]
    with subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE) as process:
        last = threading.Timer(120, process.kill)
        last.start()
        try:
            assert process.stdout
            yield process, process.stdout.readline()
        finally:
            last.cancel()
            process.kill()


@pytest.mark.parametrize(
    "started",
    [{"preload": "mine"}, {"preload": ["mine"], "preload-argv": [[]]}],
    indirect=True,
    ids=["word", "list with arguments"],
)
def test_script_keeps_what_the_user_preloads(started: tuple[subprocess.Popen[str], str]) -> None:
    process, line = started
    assert line.startswith("port ")
    port = line.split()[1]

    @gen_cluster(nthreads=[])
    async def fetch(_: Scheduler) -> None:
        answer = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/trireme/demand")
        assert json.loads(answer.body) == {**NOTHING, "workers": {}}

    fetch()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


GROUPS = {"": {"threads": 1, "resources": {}}, "big": {"threads": 2, "resources": {"MEMORY": 2}}}
BIG = [("127.0.0.1", 2, {"resources": {"MEMORY": 2}})]
POD = "big-worker-7d9f4-x2k5v"


async def ask_both(scheduler: Scheduler) -> tuple[Answer, Answer]:
    """Ask for the work of the cluster's own workers, and of the group `big`."""
    query = urlencode({"groups": json.dumps(GROUPS)})
    own, group = [await ask(scheduler, f"?{query}&group={name}") for name in ("", "big")]
    assert (own["group"], group["group"]) == ("", "big")
    return own, group


def work_of(answer: Answer) -> tuple[int, int, int]:
    return answer["waiting"], answer["executing"], answer["threads"]


@cluster([], **{"distributed.scheduler.unknown-task-duration": "10s"})
async def test_tasks_that_only_a_group_can_run_are_its_own(c: Any, s: Any) -> None:
    restricted = c.map(echo, range(3), key=names("restricted", 3), resources={"MEMORY": 1})
    await until(s, no_worker=3)
    own, group = await ask_both(s)
    # Two of them fill a worker of two threads; nobody else is woken by them.
    assert (work_of(own), work_of(group)) == ((0, 0, 0), (3, 0, 3))
    plain = c.map(echo, range(5), key=names("plain", 5))
    await until(s, no_worker=3, queued=5)
    own, group = await ask_both(s)
    assert (work_of(own), work_of(group)) == ((5, 0, 5), (3, 0, 3))
    hopeless = c.map(echo, range(2), key=names("hopeless", 2), resources={"MEMORY": 3})
    await until(s, no_worker=5, queued=5)
    own, group = await ask_both(s)
    assert work_of(group) == (3, 0, 3)
    del restricted, plain, hopeless


@cluster([], **{"distributed.scheduler.unknown-task-duration": "10s"})
async def test_where_resources_run_out_before_threads_do(c: Any, s: Any) -> None:
    restricted = c.map(echo, range(3), key=names("restricted", 3), resources={"MEMORY": 2})
    await until(s, no_worker=3)
    # Each takes a worker for itself.
    assert work_of((await ask_both(s))[1]) == (3, 0, 6)
    assert understood((await ask_both(s))[1], threads=2).workers == 3
    del restricted


@cluster(
    BIG, **{"distributed.scheduler.unknown-task-duration": "10s", "distributed.scheduler.worker-saturation": "inf"}
)
async def test_what_waits_in_a_groups_worker_and_need_not_run_there_is_the_clusters(c: Any, s: Any, w: Any) -> None:
    async with blocked(c, "plain", 6):
        await until(s, processing=6)
        s.workers[w.address].name = POD
        own, group = await ask_both(s)
        # Two run there, with what they take of it, and the others have nobody yet.
        assert (work_of(own), work_of(group)) == ((4, 0, 4), (0, 2, 2))
        assert (set(own["workers"]), set(group["workers"])) == (set(), {POD})


@cluster([*BIG, ("127.0.0.1", 1)], **{"distributed.scheduler.unknown-task-duration": "10s"})
async def test_workers_and_what_they_hold_are_told_of_their_own_group(c: Any, s: Any, big: Any, small: Any) -> None:
    s.workers[big.address].name = POD
    held = c.submit(blob, 1000, workers=[big.address])
    await held
    async with blocked(c, "restricted", 5, resources={"MEMORY": 1}), blocked(c, "own", 2, workers=[small.address]):
        await until(s, processing=7)
        own, group = await ask_both(s)
        assert (work_of(own), work_of(group)) == ((1, 1, 2), (3, 2, 5))
        assert (own["held"], group["held"]) == (0, 1)
        assert (set(own["workers"]), set(group["workers"])) == ({str(small.name)}, {POD})


@cluster([])
async def test_groups_that_make_no_sense_are_refused(c: Any, s: Any) -> None:
    for groups in (
        "x",
        "[]",
        '{"a": 1}',
        '{"a": {"threads": "x", "resources": {}}}',
        '{"a": {"threads": 1}}',
        "[" * 9999,
    ):
        with pytest.raises(HTTPError, match="400"):
            await ask(s, f"?{urlencode({'groups': groups})}")
