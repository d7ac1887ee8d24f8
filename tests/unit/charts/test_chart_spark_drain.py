"""How a Spark worker leaves: the script of its preStop, among real processes, with a master's and a driver's page."""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any

import pytest
from charting import CHARTS

SCRIPT = CHARTS / "spark" / "files" / "drain.sh"
READY = SCRIPT.with_name("ready.sh")
RECOVERED = SCRIPT.with_name("recovered.sh")
PROCESSES = Path(__file__).with_name("spark_pod.py")
RECORDED = Path(__file__).parents[1] / "operator" / "recorded" / "spark"
WORKER = json.loads((RECORDED / "decommissioned.json").read_text())["workers"][0]
# Each by the last part of its address: "here" is the worker that leaves.
HOSTS = {"master": 1, "driver": 2, "here": 3, "stays": 4, "goes": 5}
# How long a test waits for what is to happen, and a drain whose end no test waits for (seconds).
LIMIT = 30
LONG = 600

Workers = dict[str, str]
Listed = dict[str, str]
ALIVE: Workers = {"here": "ALIVE", "stays": "ALIVE"}
LEAVING: Workers = {"here": "DECOMMISSIONED", "stays": "ALIVE"}


def laid_out(value: Any, margin: str = "") -> str:
    """Write JSON as Spark does: a field a line, the items of an array one after the other."""
    inner = f"{margin}  "
    if isinstance(value, dict) and value:
        fields = [f"{inner}{json.dumps(name)} : {laid_out(item, inner)}" for name, item in value.items()]
        return "{\n" + ",\n".join(fields) + f"\n{margin}}}"
    if isinstance(value, list) and value:
        return f"[ {', '.join(laid_out(item, margin) for item in value)} ]"
    return {"{}": "{ }", "[]": "[ ]"}.get(text := json.dumps(value), text)


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Page"

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.prompt.wait()
        # Who asked may have gone.
        with suppress(OSError):
            if self.path != self.server.path:
                return self.send_error(404)
            body = laid_out(self.server.content()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Page(ThreadingTCPServer):
    """What a daemon shows.

    Args:
        host: its address.
        port: its port.
        path: where it is.
        content: returns what it shows by now, as JSON has it.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, port: int, path: str, content: Callable[[], Any]) -> None:
        super().__init__((host, port), Answer)
        self.path, self.content = path, content
        self.asked = 0
        # Cleared where it is to take questions and not to answer.
        self.prompt = threading.Event()
        self.prompt.set()
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self.prompt.set()


class Pod:
    """A worker's pod, with an application's driver and the master.

    Args:
        unshare: a command that runs another as PID 1.
        folder: where its files are to be.
        drain_seconds: what it may use to leave.
    """

    def __init__(self, unshare: list[str], folder: Path, drain_seconds: int) -> None:
        network = f"127.{random.randrange(1, 255)}.{random.randrange(255)}"
        self.addresses = {name: f"{network}.{number}" for name, number in HOSTS.items()}
        # The states of workers; where executors (or the driver) are, once they can take blocks, and before.
        self.workers: Workers = ALIVE
        self.listed: Listed = {}
        self.starting: Listed = {}
        self.pages = {
            "master": Page(self.addresses["master"], 8080, "/json/workers", self._master),
            "driver": Page(self.addresses["driver"], 4040, "/api/v1/applications/app-1/executors", self._driver),
        }
        self.told, self.ending = folder / "told", folder / "trireme-ending"
        self.output, self.errors = folder / "output", folder / "errors"
        environment = {
            **os.environ,
            "MASTER_HOST": self.addresses["master"],
            "POD_IP": self.addresses["here"],
            "TRIREME_DRAIN_SECONDS": str(drain_seconds),
            "TRIREME_TERMINATION_LOG": str(self.told),
            "TMPDIR": str(folder),
        }
        command = [*unshare, sys.executable, "-IS", str(PROCESSES), str(SCRIPT), self.addresses["driver"]]
        with self.output.open("a") as output, self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=errors, text=True
            )

    def _master(self) -> Any:
        hosts = [(self.addresses[name], state) for name, state in self.workers.items()]
        return {"workers": [{**WORKER, "id": f"worker-1-{at}-7078", "host": at, "state": state} for at, state in hosts]}

    def _driver(self) -> Any:
        ready = {"driver": "driver", **self.listed}
        places = {id: f"{self.addresses[host]}:4{index:04}" for index, (id, host) in enumerate(ready.items())}
        places |= {id: self.addresses[host] for id, host in self.starting.items()}
        return [
            {
                **{"id": id, "hostPort": place, "isActive": True, "totalCores": 1, "isBlacklisted": False},
                **{"addTime": "2026-11-25T08:58:36.661GMT", "executorLogs": {"stdout": f"http://{place}/?id=1"}},
                **{"memoryMetrics": {"usedOnHeapStorageMemory": 0}, "blacklistedInStages": [], "attributes": {}},
                **{"resources": {}, "resourceProfileId": 0, "isExcluded": False, "excludedInStages": []},
            }
            for id, place in places.items()
        ]

    def do(self, *commands: str) -> None:
        assert self.process.stdin
        for command in commands:
            self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    @property
    def log(self) -> list[str]:
        return self.output.read_text().splitlines()

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT
        while not condition():
            if time.monotonic() > end:
                asked = {name: page.asked for name, page in self.pages.items()}
                pytest.fail(f"only {self.log} happened, pages were asked {asked}: {self.errors.read_text()}")
            time.sleep(0.01)

    def sees(self, *lines: str) -> None:
        self.until(lambda: {*lines} <= {*self.log})

    def counts(self, executors: int) -> None:
        word = f'{{"trireme": {{"executors": {executors}}}}}\n'
        self.until(lambda: self.told.exists() and self.told.read_text() == word)

    def goes_round(self) -> None:
        """Wait until the script has looked for executors, and counted them, once more."""
        before = self.told.stat().st_mtime_ns
        self.until(lambda: self.told.stat().st_mtime_ns != before)

    def asks(self, page: str, times: int = 2) -> None:
        """Wait until a page was asked again: by default, until the first answer from now on was used."""
        wanted = self.pages[page].asked + times
        self.until(lambda: self.pages[page].asked >= wanted)

    def ends(self, *executors: str) -> None:
        """End the executors, and the script by that."""
        self.do(*(f"end {id}" for id in executors))
        self.sees("drain ended 0", *(f"{id} ended 0" for id in executors))
        assert self.told.read_text() == ""
        assert self.log.count("worker told") == 1

    def __enter__(self) -> "Pod":
        return self

    def __exit__(self, *_: object) -> None:
        # The first process ends with its input, and all others with it.
        with self.process:
            pass
        for page in self.pages.values():
            page.close()


Pods = Callable[..., Pod]


@pytest.fixture(scope="session")
def unshare() -> list[str]:
    """Return a command that runs another as the first process of a namespace of processes."""
    own = ["--pid", "--fork", "--mount-proc", "--kill-child"]
    for command in (["unshare", *own], ["unshare", "--user", "--map-root-user", *own]):
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    pytest.skip("unshare (util-linux) cannot make a namespace of processes here")


@pytest.fixture
def pods(unshare: list[str], tmp_path: Path) -> Iterator[Pods]:
    """Make pods, each in a folder with a name of its own; they go with the test."""
    with ExitStack() as stack:

        def make(name: str = "pod", drain_seconds: int = LONG) -> Pod:
            (tmp_path / name).mkdir()
            return stack.enter_context(Pod(unshare, tmp_path / name, drain_seconds))

        yield make


def alone(pod: Pod) -> None:
    """Begin to leave with an executor that is alone, up to where the master knows of it."""
    pod.listed = {"1": "here"}
    pod.do("start 1", "drain")
    pod.sees("worker told", "1 stopped")
    assert "1 held" in pod.log
    pod.workers = LEAVING


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_pages_are_laid_out_as_real_ones(path: Path) -> None:
    assert laid_out(json.loads(path.read_text())) == path.read_text().rstrip("\n")


def test_without_executors_it_only_announces(pods: Pods) -> None:
    pod = pods()
    pod.do("drain")
    pod.sees("worker told")
    pod.ends()


@pytest.mark.parametrize(
    ("listed", "starting"),
    [
        ({}, {}),
        ({"11": "here", "2": "stays"}, {}),
        # The driver knows of it, but it cannot have blocks yet.
        ({"2": "stays"}, {"1": "here"}),
    ],
)
def test_an_executor_that_is_new_is_left_to_its_driver(pods: Pods, listed: Listed, starting: Listed) -> None:
    pod = pods()
    pod.listed, pod.starting = listed, starting
    pod.do("start 1", "drain")
    pod.sees("worker told")
    pod.counts(1)
    pod.goes_round()
    pod.ends("1")
    assert "1 told" not in pod.log
    assert "1 stopped" not in pod.log


def test_a_followed_executor_is_held_while_it_is_announced(pods: Pods) -> None:
    pod = pods()
    pod.listed = {"1": "here", "2": "stays"}
    pod.do("start 1", "drain")
    pod.sees("worker told", "1 stopped")
    assert "1 held" in pod.log
    # The master has not heard of it.
    pod.asks("master", 3)
    assert "1 continued" not in pod.log
    pod.workers = LEAVING
    pod.sees("1 continued")
    pod.ends("1")
    assert "1 told" not in pod.log


def test_an_executor_that_is_alone_is_held_until_another_can_take_its_blocks(pods: Pods) -> None:
    pod = pods()
    alone(pod)
    # None can: one is beside it, one on a worker that the master does not know, one is yet to start. Nor can a driver.
    pod.listed, pod.starting = {"driver": "stays", "1": "here", "2": "here", "3": "goes"}, {"4": "stays"}
    # Nor can one whose worker leaves, too.
    for pod.workers in (LEAVING, {**LEAVING, "goes": "DECOMMISSIONED"}):
        pod.asks("driver")
        assert "1 continued" not in pod.log
    pod.workers = {**LEAVING, "goes": "ALIVE"}
    pod.sees("1 continued")
    pod.ends("1")
    assert "1 told" not in pod.log


@pytest.mark.parametrize(
    "workers",
    # In either, the master never hears of this one.
    [ALIVE, {**ALIVE, "goes": "DECOMMISSIONED"}],
)
def test_an_executor_that_stays_alone_is_let_go_in_the_end(pods: Pods, workers: Workers) -> None:
    pod = pods(drain_seconds=2)
    pod.workers, pod.listed = workers, {"1": "here"}
    pod.do("start 1", "drain")
    pod.sees("worker told", "1 continued")
    assert "1 held" in pod.log
    pod.ends("1")
    assert "1 told" not in pod.log


@pytest.mark.parametrize(
    ("workers", "listed"),
    [
        # They have gone; one has come for them.
        (ALIVE, {"1": "here"}),
        ({**ALIVE, "goes": "DECOMMISSIONED"}, {"1": "here", "2": "goes", "3": "stays"}),
    ],
)
def test_it_waits_for_those_that_leave_already(pods: Pods, workers: Workers, listed: Listed) -> None:
    pod = pods()
    pod.workers = {**ALIVE, "goes": "DECOMMISSIONED"}
    pod.listed = {"1": "here", "2": "goes"}
    pod.do("start 1", "drain")
    pod.asks("driver", 3)
    assert pod.log == []
    pod.workers, pod.listed = workers, listed
    pod.sees("worker told", "1 stopped")
    assert "1 held" in pod.log


def test_a_slow_page_counts_as_busy(pods: Pods) -> None:
    """Side by side, since the script waits 3 s for each answer."""

    def at_first(pod: Pod, page: str) -> None:
        pod.pages[page].prompt.clear()
        pod.listed = {"1": "here", "2": "stays"}
        pod.do("start 1", "drain")
        pod.sees("worker told")
        assert "1 held" in pod.log

    def announced(pod: Pod, page: str) -> None:
        pod.listed = {"1": "here", "2": "stays"}
        pod.do("start 1", "drain")
        pod.sees("worker told")
        pod.pages[page].prompt.clear()
        pod.asks(page)
        # It does not go on before the master has heard of it.
        assert not pod.told.exists()

    def later(pod: Pod, page: str) -> None:
        alone(pod)
        pod.counts(1)
        pod.pages[page].prompt.clear()
        pod.listed = {"1": "here", "2": "stays"}
        pod.asks(page)
        assert "1 continued" not in pod.log
        pod.pages[page].prompt.set()
        pod.sees("1 continued")
        pod.ends("1")

    with ThreadPoolExecutor() as together:
        running = [
            together.submit(case, pods(f"{case.__name__}-{page}", drain_seconds), page)
            for case, page, drain_seconds in [
                (at_first, "master", 2),
                (at_first, "driver", 2),
                (announced, "master", LONG),
                (later, "master", LONG),
                (later, "driver", LONG),
            ]
        ]
    for case in running:
        case.result()


@pytest.mark.parametrize(
    ("workers", "gone"),
    [
        (ALIVE, "master"),
        (ALIVE, "driver"),
        # There is nobody to be followed by.
        ({"here": "ALIVE"}, ""),
        ({"here": "ALIVE", "goes": "DECOMMISSIONED"}, ""),
    ],
)
def test_nothing_is_held_that_nobody_follows(pods: Pods, workers: Workers, gone: str) -> None:
    pod = pods()
    pod.workers, pod.listed = workers, {"1": "here", "2": "stays"}
    if gone:
        pod.pages[gone].close()
    pod.do("start 1", "drain")
    pod.sees("worker told")
    pod.counts(1)
    pod.goes_round()
    assert "drain ended 0" not in pod.log
    pod.ends("1")
    assert "1 told" not in pod.log
    assert "1 stopped" not in pod.log


def test_executors_that_live_are_told_of(pods: Pods) -> None:
    pod = pods()
    pod.do("start 1", "start 2", "drain")
    pod.counts(2)
    pod.do("end 1")
    pod.counts(1)
    pod.ends("2")


def test_what_its_worker_ends_is_told_of(pods: Pods) -> None:
    pod = pods()
    pod.do("start 1", "drain")
    pod.counts(1)
    pod.ending.touch()
    pod.do("end 1")
    pod.sees("drain ended 0")
    pod.counts(1)


def test_an_executor_that_appears_later_is_left_to_its_driver(pods: Pods) -> None:
    pod = pods()
    alone(pod)
    pod.do("start 3")
    pod.counts(2)
    pod.goes_round()
    pod.listed = {"1": "here", "2": "stays"}
    pod.sees("1 continued")
    pod.ends("1", "3")
    assert not {"1 told", "3 told", "3 stopped"} & {*pod.log}


# The readiness probe


def ready(folder: Path, states: list[Workers]) -> tuple[int, int]:
    """Run the script of the readiness probe; return its exit code, and how often it asked.

    Args:
        folder: where its files are to be.
        states: the states of workers, one question after the other; the last one stays.
    """
    network = f"127.{random.randrange(1, 255)}.{random.randrange(255)}"
    addresses = {name: f"{network}.{number}" for name, number in HOSTS.items()}
    left = [*states]

    def content() -> Any:
        shown = left.pop(0) if len(left) > 1 else left[0]
        return {"workers": [{**WORKER, "host": addresses[name], "state": state} for name, state in shown.items()]}

    page = Page(addresses["master"], 8080, "/json/workers", content)
    environment = {**os.environ, "MASTER_HOST": addresses["master"], "POD_IP": addresses["here"]}
    try:
        found = subprocess.run(["bash", READY], env=environment, cwd=folder, timeout=LIMIT)
        return found.returncode, page.asked
    finally:
        page.close()


def test_a_worker_is_ready_once_its_master_knows_it(tmp_path: Path) -> None:
    assert ready(tmp_path, [ALIVE]) == (0, 1)
    assert ready(tmp_path, [{}, {"stays": "ALIVE"}, ALIVE]) == (0, 3)


@pytest.mark.parametrize("states", [{}, {"stays": "ALIVE"}, LEAVING, {"here": "DEAD", "stays": "ALIVE"}])
def test_a_worker_that_its_master_does_not_count_is_not_ready(tmp_path: Path, states: Workers) -> None:
    code, asked = ready(tmp_path, [states])
    assert code == 1
    assert asked > 1


# The master's startup probe


def recovered(states: list[str], seconds: int = 0) -> tuple[int, int]:
    """Run the script of a master's startup probe; return its exit code, and how often it asked.

    Args:
        states: what the master says of itself, one question after the other; the last one stays. A "" is no answer.
        seconds: how long it has waited by then.
    """
    address = f"127.{random.randrange(1, 255)}.{random.randrange(255)}.{HOSTS['master']}"
    shown = json.loads((RECORDED / "recovering.json").read_text())
    left = [*states]

    def content() -> Any:
        state = left.pop(0) if len(left) > 1 else left[0]
        return {**shown, "status": state} if state else {}

    page = Page(address, 8080, "/json/", content)
    environment = {**os.environ, "POD_IP": address, "SECONDS": str(seconds)}
    try:
        found = subprocess.run(["bash", RECOVERED], env=environment, timeout=LIMIT)
        return found.returncode, page.asked
    finally:
        page.close()


def test_nobody_is_led_to_a_master_before_it_has_told_those_that_it_knew() -> None:
    assert recovered(["ALIVE"]) == (0, 1)
    assert recovered(["", "STANDBY", "RECOVERING", "COMPLETING_RECOVERY", "ALIVE"]) == (0, 5)


def test_a_master_waits_for_those_that_have_gone_no_longer_than_20_s() -> None:
    code, asked = recovered(["RECOVERING"], seconds=18)
    assert code == 0
    assert asked > 1
    # That time begins with its first answer.
    assert recovered(["", "RECOVERING", "ALIVE"], seconds=20) == (0, 3)
