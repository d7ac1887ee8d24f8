"""What Celery clusters promise, by the samples as they stand, and by brokers that go away under load."""

import base64
import json
import re
import signal
import sys
from collections import Counter
from contextlib import suppress
from urllib.request import Request, urlopen

import pytest

from loads import brief
from on_cluster import CONTEXT, TOP, first_line, namespace, started, until
from pages import missing, snippets

(GIL,) = (text.splitlines() for text in snippets("docs/celery.md", "What the GIL does", "text"))
SAMPLES = TOP / "manifests" / "samples" / "celery"
STARTED = ("routes", "priorities", "rabbitmq", "retries", "monitor", "periodic", "pools")
SMALL = {"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"cpu": "20m"}}
BROKERS = ("on-redis", "on-rabbitmq")
# Redis has to give back every second what was not acknowledged for 20, so that a longer task would run twice. Workers
# begin that time anew every two seconds, or a few more where they get little of a CPU.
IMPATIENT = {"visibility_timeout": 20, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
TASKS = """
import socket
import time
from celery import Celery
app = Celery("tasks")

@app.task
def note(what, seconds=0.0):
    print(f"begins {what}", flush=True)
    time.sleep(seconds)  # this is the work, as long as it is to be: nothing is waited for
    print(f"noted {what}", flush=True)

@app.task
def where():
    return socket.gethostname().rpartition("-worker-")[0]
"""
LOAD = """
import time
from tasks import note
for number in range(300):
    note.delay(number)
    time.sleep(0.02)  # the pace of the load
print("sent")
"""
# What RabbitMQ sees of a worker that is killed: its connection breaks, and with it a message is not acknowledged.
KILLED = """
from kombu import Connection
from tasks import app, note
note.apply_async(["never"], queue="poisoned")
dead = app.amqp.queues["trireme.dead"]
for _ in range(6):
    with app.connection_for_read() as connection:
        queue = app.amqp.queues["poisoned"](connection.default_channel)
        while not queue.get():
            pass
with app.connection_for_read() as connection:
    found = connection.SimpleQueue(dead).get(timeout=60)
    print(found.headers["task"], found.headers["x-death"][0]["reason"])
"""


# A limit of one is exceeded as the second worker leaves, unless that hands back what it runs so that it is not counted.
# Workers of the driver's own, because pods take longer to come.
DRAINED = """
import os, subprocess, sys
from pathlib import Path

Path("/tmp/own.py").write_text('''
from kombu import Exchange, Queue
from tasks import app
limit = {"x-queue-type": "quorum", "x-delivery-limit": 1}
app.conf.task_queues = [Queue("drained", Exchange("drained", "topic"), "drained", queue_arguments=limit)]
''')
sys.path.append("/tmp")
from own import app
from tasks import note

note.apply_async(["drained", 600], queue="drained")
worker = [sys.executable, "/opt/trireme/scripts/trireme_worker.py", "own", "--queues=drained", "--concurrency=1",
          "--without-gossip", "--without-mingle", "--loglevel=INFO"]
env = {**os.environ, "PYTHONPATH": os.environ["PYTHONPATH"] + ":/tmp", "TRIREME_DRAIN_SECONDS": "4",
       "TRIREME_TERMINATION_LOG": "/tmp/told"}
for number in range(4):
    env["POD_NAME"] = f"of-{number}"
    with subprocess.Popen(worker, env=env, stderr=subprocess.PIPE, text=True) as process:
        if not any("begins drained" in line for line in process.stderr):
            sys.exit(f"worker {number} got no task")
        process.terminate()
        process.stderr.read()
with app.connection_for_read() as connection:
    print(connection.default_channel.queue_declare("drained", passive=True).message_count)
"""


# Nobody consumes what fills the broker's memory; meanwhile others are run.
FULL = """
from kombu.exceptions import OperationalError
from tasks import app, note

waiting = [note.delay(f"meanwhile-{number}", 1) for number in range(20)]
sent, refused = 0, ""
while not refused:
    try:
        note.apply_async([sent, "x" * 10**6], queue="full", retry=False)
        sent += 1
    except OperationalError as error:
        refused = str(error)
print(refused)
with app.connection_for_write() as connection:
    client = connection.default_channel.client
    print([result.get(timeout=120) for result in waiting] == [None] * 20)
    print(sent > 100, client.llen("full") == sent)
    client.delete("full")
print(note.delay("again").get(timeout=60))
"""


def cluster(name, **celery):
    spec = {
        "engine": "celery",
        "resources": SMALL,
        "replicas": 2 if name == "on-redis" else 1,
        "drainSeconds": 10,
        "code": {"configMap": "tasks"},
        "celery": {"app": "tasks", **celery},
    }
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerCluster", "metadata": {"name": name}, "spec": spec}


def job(name, on, script):
    spec = {"clusterRef": {"name": on}, "driver": {"resources": SMALL, "script": script}}
    return {"apiVersion": "trireme.dev/v1alpha1", "kind": "WorkerJob", "metadata": {"name": name}, "spec": spec}


REPORTERS = {
    **cluster("reporters"),
    "kind": "WorkerGroup",
    "spec": {
        "clusterRef": {"name": "on-rabbitmq"},
        "replicas": 0,
        "autoscaling": {
            "minReplicas": 0,
            "maxReplicas": 1,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 3}},
        },
        "celery": {"queues": ["reports"]},
    },
}


@pytest.fixture(scope="module")
def kubectl():
    """Lend one namespace to all tests here, in which the samples and two clusters start side by side."""
    with namespace("celery", restricted=True) as kubectl:
        kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
        broker = {"resources": {"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"cpu": "20m"}}}
        kubectl.apply(
            cluster("on-redis", broker=broker, config={"broker_transport_options": IMPATIENT}),
            cluster("on-rabbitmq", broker={"type": "rabbitmq", **broker}),
            REPORTERS,
            job("long", "on-redis", "from tasks import note; print(note.delay('long', 60).get(timeout=240))"),
        )
        kubectl("apply", *(f"--filename={SAMPLES / sample}.yaml" for sample in STARTED))
        yield kubectl


def output(kubectl, name):
    """Return what a job printed, once it is complete."""
    kubectl.wait(f"wj/{name}", "condition=Complete", seconds=300)
    return kubectl.get(f"wj/{name}")["status"].get("output", "")


def all_workers(kubectl, on):
    """Wait for those whose logs are read: of one that is about to start there are none."""
    replicas = kubectl.get(f"wc/{on}")["spec"]["replicas"]
    kubectl.wait(f"wc/{on}", f"jsonpath={{.status.readyReplicas}}={replicas}", seconds=240)


def noted(kubectl, on):
    """Return how often each task was run, by the workers' logs."""
    workers = f"--selector=app.kubernetes.io/instance={on},app.kubernetes.io/component=worker"
    return Counter(re.findall(r"noted (\w+)", kubectl("logs", workers, "--tail=-1")))


def test_queues_by_routes_that_the_program_does_not_know_of(kubectl):
    assert output(kubectl, "routes") == "8 through slow\nhello Zoë through fast"


@pytest.mark.parametrize(("sample", "most"), [("priorities", 5), ("rabbitmq", 30)])
def test_urgent_tasks_overtake_a_thousand_that_wait(kubectl, sample, most):
    said = re.fullmatch(r"10 urgent tasks are done, and meanwhile (\d+) of 1000 others", output(kubectl, sample))
    assert said
    assert int(said[1]) <= most


def test_retries_and_what_never_works(kubectl):
    # Which of the pool's jobs it was depends on the jitter of another.
    assert re.sub(r"Job: \d+", "Job: N", output(kubectl, "retries")).splitlines() == [
        "never",
        "Worker exited prematurely: signal 9 (SIGKILL) Job: N.",
        "flaky: done after 2 retries",
        "picky: done in Thule",
        "['tasks.hopeless', 'tasks.poison'] are put aside",
    ]


def test_processes_against_threads(kubectl):
    """The GIL lets threads use one CPU, whatever else the machine does; as many wait as there are."""
    lines = output(kubectl, "pools").splitlines()
    assert missing(GIL, lines, figures=True) is None
    rows = {
        (task, on): (int(processes), float(cpus), int(at_once))
        for task, on, processes, _, cpus, at_once in map(str.split, lines[-4:])
    }
    assert {on: processes for (_, on), (processes, *_) in rows.items()} == {"threads": 1, "processes": 2}
    assert rows["compute", "threads"][1] < 1.15
    assert (rows["wait", "processes"][2], rows["wait", "threads"][2]) == (2, 6)
    for name, capacity in (
        ("wc/pools", {"processes": "2", "memory": str((512 - 96) * 2**20 // 2)}),
        ("wg/pools-threads", {"threads": "6", "memory": str((512 - 96) * 2**20)}),
    ):
        assert kubectl.get(name)["status"]["capacity"] == capacity


def test_a_group_is_sized_by_its_own_queues_on_rabbitmq(kubectl):
    kubectl.wait("wg/reporters", "jsonpath={.status.replicas}=0", seconds=240)
    script = "from tasks import where; print(where.apply_async(queue='reports').get(timeout=240))"
    kubectl.apply(job("report", "on-rabbitmq", script))
    assert output(kubectl, "report") == "reporters"
    until(lambda: kubectl.get("wg/reporters")["spec"]["replicas"] == 0, seconds=60)


def test_a_monitor_of_ones_own(kubectl):
    told = r"tasks\.bad failed: ValueError\('no'\)\ntasks\.slow took (\d+\.\d) s"
    said = re.fullmatch(told, output(kubectl, "watch"))
    assert said
    # It works for 1.5 s; what its process takes for its first result is counted, too.
    assert float(said[1]) >= 1.5


def test_a_task_may_take_longer_than_the_visibility_timeout(kubectl):
    output(kubectl, "long")
    all_workers(kubectl, "on-redis")
    assert noted(kubectl, "on-redis")["long"] == 1


def test_periodic_tasks_flower_and_metrics(kubectl):
    kubectl.wait("wc/periodic", "condition=Ready", seconds=240)
    until(lambda: kubectl("logs", "deployment/periodic-worker", "--tail=-1").count("tick") > 2, seconds=180)
    assert kubectl.get("wc/periodic")["status"]["capacity"].keys() == {"threads", "memory"}
    for part in ("flower", "monitor"):
        kubectl("rollout", "status", f"deployment/periodic-{part}", "--timeout=120s")

    def asks(url, *more):
        program = (
            "from urllib.request import Request, urlopen\n"
            f"print(urlopen(Request({url!r}, headers=dict({more!r}))).read().decode())"
        )
        return kubectl("exec", "deployment/periodic-worker", "--", "python", "-c", program, check=False)

    wanted = (
        'celery_task_succeeded_total{name="tasks.tick"}',
        'celery_queue_length{queue_name="celery"} ',
        'celery_worker_tasks_active{hostname="worker@periodic-worker-',
        'celery_task_queue_wait_time_count{name="tasks.tick",queue_name="celery"} ',
    )

    def metrics():
        found = asks("http://periodic-monitor:8787/metrics")
        return all(line in found for line in wanted)

    until(metrics, seconds=60)
    # Flower tells nobody who does not know the password.
    workers = "http://periodic-flower:5555/api/workers?refresh=1"
    assert asks(workers) == ""
    secret = kubectl("get", "secret/periodic-auth", "--output=go-template={{.data.password | base64decode}}")
    basic = base64.b64encode(f"trireme:{secret}".encode()).decode()
    known = ("Authorization", f"Basic {basic}")
    # It answers with those that have answered it in time, if any.
    until(lambda: "worker@periodic-worker-" in asks(workers, known), seconds=60)
    place = (f"--context={CONTEXT}", f"--namespace={kubectl.namespace}")
    with started(sys.executable, "-m", "trireme", "ui", "periodic", "--no-browser", *place) as process:
        request = Request(f"{first_line(process).strip()}/api/workers", headers=dict([known]))
        with urlopen(request, timeout=60) as answer:
            assert b"worker@periodic-worker-" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@pytest.mark.parametrize("broker", BROKERS)
def test_a_broker_that_is_started_again_under_load_loses_nothing(kubectl, broker):
    kubectl.wait(f"wc/{broker}", "condition=Ready", seconds=240)
    all_workers(kubectl, broker)
    workers = f"--selector=app.kubernetes.io/instance={broker},app.kubernetes.io/component=worker"
    kubectl.apply(job(f"load-{broker}", broker, LOAD))
    until(lambda: noted(kubectl, broker)["50"], seconds=240)
    kubectl("delete", f"pod/{broker}-broker-0")
    assert output(kubectl, f"load-{broker}") == "sent"

    def lost():
        return {str(number) for number in range(300)} - noted(kubectl, broker).keys()

    with suppress(AssertionError):
        until(lambda: not lost(), seconds=240)
    assert lost() == set(), kubectl("logs", workers, "--tail=100")
    # The workers have waited for it.
    pods = kubectl.get("pods", workers)["items"]
    assert [one["restartCount"] for pod in pods for one in pod["status"]["containerStatuses"]] == [0] * len(pods)


def test_a_broker_that_is_full_refuses_tasks_and_no_worker(kubectl):
    """None is forgotten, those that are there are run, and there is room again."""
    kubectl.wait("wc/on-redis", "condition=Ready", seconds=240)
    all_workers(kubectl, "on-redis")
    kubectl.apply(job("full", "on-redis", FULL))
    refused, results, counted, again = output(kubectl, "full").splitlines()
    assert "command not allowed when used memory > 'maxmemory'" in refused
    assert (results, counted, again) == ("True", "True True", "None")


def test_workers_that_leave_among_short_tasks_run_none_twice_and_wait_for_nothing(kubectl):
    kubectl.apply(*(job(f"brief-{broker}", broker, brief(["trireme"], leaving=4, tasks=1000)) for broker in BROKERS))
    for broker in BROKERS:
        counted = json.loads(output(kubectl, f"brief-{broker}").splitlines()[-1])["trireme"]
        assert {name: counted[name] for name in ("done", "doubled", "at_limit")} == {
            "done": 1000,
            "doubled": 0,
            "at_limit": 0,
        }


def test_a_task_that_meets_many_workers_that_leave_is_not_put_aside(kubectl):
    kubectl.apply(job("drained", "on-rabbitmq", DRAINED))
    assert output(kubectl, "drained").splitlines()[-1] == "1"


def test_of_rabbitmq_too_a_task_that_kills_its_workers_is_put_aside(kubectl):
    kubectl.apply(job("killed", "on-rabbitmq", KILLED))
    assert output(kubectl, "killed") == "tasks.note delivery_limit"
    assert kubectl.get("wc/on-rabbitmq")["status"]["endpoints"] == [
        {"name": "broker", "url": f"amqp://on-rabbitmq-broker.{kubectl.namespace}.svc:5672"}
    ]
