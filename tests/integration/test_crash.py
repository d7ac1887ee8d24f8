"""An operator that dies after any single API write leaves nothing that the next one does not bring to the same end."""

import asyncio
import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from objects import NOWHERE, cluster, group, state

from on_cluster import TOP, condition, until
from trireme_operator.__main__ import run
from trireme_operator.client import ClusterClient
from trireme_operator.settings import Settings

WRITES = ("apply", "create", "patch", "delete", "write_status", "record")
QUIET_SECONDS = 1.0
"""So long without a write, nothing is left to do: longer than any wait within the operator but those for a reason."""


class Killed(BaseException):
    """Ends the operator as a kill would: nothing is caught, nothing is tidied up."""


class Counting(ClusterClient):
    """A client that counts writes and, when its time has come, dies right after one."""

    def __init__(self, namespace, dies_after=None):
        super().__init__(namespace)
        self.writes = []
        self.last = time.monotonic()
        for name in WRITES:
            setattr(self, name, self._counted(name, getattr(super(), name), dies_after))

    async def list(self, kind, selector):
        """Note that it still looks: before all is listed it writes nothing."""
        found = await super().list(kind, selector)
        self.last = time.monotonic()
        return found

    def _counted(self, name, write, dies_after):
        async def counted(*arguments):
            result = await write(*arguments)
            self.writes.append(name)
            self.last = time.monotonic()
            if len(self.writes) == dies_after:
                raise Killed
            return result

        return counted


def operate(namespace, done, dies_after=None):
    """Run an operator until it dies, or what it should do is done and it has nothing left to write.

    Returns:
        The names of the client's writes.

    Raises:
        TimeoutError: it is not done after two minutes.
    """
    options = Settings(
        namespace=namespace,
        own_namespace=namespace,
        identity="test",
        charts=Path(TOP / "charts"),
        helm="",
        registry="",
        metrics_from=[],
        port=0,
        workers=1,
        leader_election=False,
        log_level="WARNING",
    )

    async def operating():
        client = Counting(namespace, dies_after)
        work = asyncio.create_task(run(options, client))
        deadline = time.monotonic() + 120
        while not work.done():
            asked = client.last
            quiet = time.monotonic() - asked > QUIET_SECONDS
            if quiet and await asyncio.to_thread(done) and client.last == asked:
                work.cancel()
                break
            if time.monotonic() > deadline:
                raise TimeoutError(client.writes)
            # A question is a process: not asked all the time, which tests beside this one need.
            await asyncio.wait([work], timeout=0.5 if quiet else 0.1)
        await asyncio.wait([work])
        return client.writes

    return asyncio.run(operating())


def reconciled(kubectl, name, **conditions):
    """Return a question: whether an object's newest generation was reconciled, and its conditions are so."""

    def question():
        item = kubectl.get(name)
        seen = item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"]
        return seen and all(condition(item, type_).get("status") == status for type_, status in conditions.items())

    return question


def outcome(kubectl, *names):
    """Return the objects, and of each named one whether it is there and how its conditions stand."""
    found = {}
    for name in names:
        items = kubectl("get", name, "--ignore-not-found", "--output=name").strip()
        conditions = kubectl.get(name)["status"]["conditions"] if items else []
        found[name] = {item["type"]: (item["status"], item["reason"]) for item in conditions}
    return found, state(kubectl)


def judged(kubectl):
    """Tell whether all pods that are to come are there, and the scheduler has found a node, or none, for each."""
    if not all(map(_has_pods, kubectl.get("deployments,statefulsets,jobs")["items"])):
        return False
    # Looked at after those that make them.
    return all(condition(pod, "PodScheduled") for pod in kubectl.get("pods")["items"])


def _has_pods(item):
    spec, status = item["spec"], item.get("status", {})
    if item["kind"] == "Job":
        return condition(item, "Complete") or condition(item, "Failed") or spec.get("suspend") or status.get("active")
    seen = status.get("observedGeneration") == item["metadata"]["generation"]
    return seen and status.get("replicas", 0) >= spec["replicas"]


def cleared(kubectl, *kinds):
    """Tell whether nothing of a round is left for the next one to meet."""
    left = kubectl("get", ",".join(("replicasets", "pods", *kinds)), "--output=name").strip()
    return not left and not state(kubectl)


def survives(kubectl, begin, done, names, clear):
    """Kill the operator after its first, second ... write, until it comes through; the end is always the same."""

    def ends_the_same():
        return done() and outcome(kubectl, *names) == expected

    begin()
    writes = operate(kubectl.namespace, lambda: done() and judged(kubectl))
    assert len(writes) > 1
    # What it was told too late to write, one that starts now writes.
    operate(kubectl.namespace, done)
    expected = outcome(kubectl, *names)
    for dies_after in range(1, len(writes) + 1):
        clear()
        begin()
        if len(operate(kubectl.namespace, done, dies_after)) < dies_after:
            break
        # When a pod's news comes is the scheduler's affair; at the end of the time the difference is shown.
        with suppress(TimeoutError):
            operate(kubectl.namespace, ends_the_same)
        assert outcome(kubectl, *names) == expected, f"after write {dies_after} of {writes}"
    return writes


SMALL = {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "10m"}}
NO_CLAIM = {"broker": {"persistence": {"enabled": False}}}
"""Chart values without a volume, whose making and removal takes seconds each time."""


def test_a_job_with_a_cluster_of_its_own_from_start_to_end(kubectl):
    """The broker and the driver really run; the cluster is deleted by the operator when the job is done."""
    job = {
        "apiVersion": "trireme.dev/v1alpha1",
        "kind": "WorkerJob",
        "metadata": {"name": "mean"},
        "spec": {
            "clusterTemplate": {
                "spec": {
                    "engine": "celery",
                    "replicas": 0,
                    "celery": {"broker": {"resources": SMALL}},
                    "values": NO_CLAIM,
                }
            },
            "driver": {"command": ["true"], "resources": SMALL},
        },
    }

    def done():
        gone = not kubectl("get", "wc", "--output=name").strip() and state(kubectl).keys() == {"Job/mean-driver"}
        return gone and reconciled(kubectl, "wj/mean", Complete="True")()

    def clear():
        kubectl("delete", "wj/mean", "--wait")
        until(lambda: cleared(kubectl))

    writes = survives(kubectl, begin=lambda: kubectl.apply(job), done=done, names=["wj/mean"], clear=clear)
    assert {"create", "apply", "write_status", "delete", "record"} <= set(writes)


@pytest.mark.parametrize("engine", ["dask", "celery"])
def test_creating_a_cluster(kubectl, engine):
    def clear():
        kubectl("delete", "wc/numbers", "--wait")
        until(lambda: cleared(kubectl))

    writes = survives(
        kubectl,
        begin=lambda: kubectl.apply(cluster(engine=engine)),
        done=reconciled(kubectl, "wc/numbers"),
        names=["wc/numbers"],
        clear=clear,
    )
    assert {"apply", "write_status"} <= set(writes)


def test_updating_a_cluster(kubectl):
    """Several objects change, and one is pruned."""
    old = cluster(engine="celery", replicas=1)
    new = cluster(
        engine="celery", replicas=2, image="other/image", values={"broker": {"url": "redis://x/0"}, **NOWHERE}
    )
    kubectl.apply(old)
    operate(kubectl.namespace, reconciled(kubectl, "wc/numbers"))

    def clear():
        kubectl.apply(old)
        operate(kubectl.namespace, reconciled(kubectl, "wc/numbers"))

    writes = survives(
        kubectl,
        begin=lambda: kubectl.apply(new),
        done=reconciled(kubectl, "wc/numbers"),
        names=["wc/numbers"],
        clear=clear,
    )
    assert {"apply", "delete"} <= set(writes)


def test_creating_a_cluster_with_a_group(kubectl):
    """Whenever the operator dies, for good at last, the end of the cluster is the end of the group."""

    def clear():
        kubectl("delete", "wc/numbers", "--wait")
        until(lambda: cleared(kubectl, "wg"))

    done = [reconciled(kubectl, name) for name in ("wc/numbers", "wg/big")]
    writes = survives(
        kubectl,
        begin=lambda: kubectl.apply(cluster(), group(dask={"workerResources": {"GPU": 1}})),
        done=lambda: all(question() for question in done),
        names=["wc/numbers", "wg/big"],
        clear=clear,
    )
    assert {"apply", "patch", "write_status"} <= set(writes)


@pytest.mark.parametrize("suspend", [True, False])
def test_suspending_and_resuming_a_job(kubectl, suspend):
    """Its driver waits for a node that there is not, so that nothing but the operator moves on."""
    broker = {"engine": "celery", "replicas": 0, "celery": {"broker": {"resources": SMALL}}, "values": NO_CLAIM}
    driver = {"command": ["true"], "resources": SMALL, "nodeSelector": NOWHERE["nodeSelector"]}
    item = {
        "apiVersion": "trireme.dev/v1alpha1",
        "kind": "WorkerJob",
        "metadata": {"name": "mean"},
        "spec": {"clusterTemplate": {"spec": broker}, "driver": driver},
    }

    def has_driver():
        return "mean-driver" in kubectl("get", "jobs", "--output=name")

    def set_to(value):
        def stands():
            driver_stands = kubectl.get("job/mean-driver")["spec"].get("suspend", False) is value
            cluster_stands = kubectl.get("wc/mean")["spec"]["suspend"] is value
            of_job = reconciled(kubectl, "wj/mean", Suspended=str(value))
            return driver_stands and cluster_stands and of_job() and reconciled(kubectl, "wc/mean")()

        kubectl("patch", "wj/mean", "--type=merge", f"--patch={json.dumps({'spec': {'suspend': value}})}")
        return stands

    kubectl.apply(item)
    operate(kubectl.namespace, has_driver)
    if not suspend:
        operate(kubectl.namespace, set_to(True))
    done = [None]

    def begin():
        done[0] = set_to(suspend)

    writes = survives(
        kubectl,
        begin=begin,
        done=lambda: done[0](),
        names=["wj/mean", "wc/mean"],
        clear=lambda: operate(kubectl.namespace, set_to(not suspend)),
    )
    assert {"apply", "patch", "write_status"} <= set(writes)


def test_a_job_by_schedule_is_made_once(kubectl):
    """Its time was the first day of this year; the job waits for a cluster that there is not."""
    spec = {
        "schedule": "0 0 1 1 *",
        "suspend": True,
        "jobTemplate": {"spec": {"clusterRef": {"name": "nowhere"}, "driver": {"command": ["true"]}}},
    }
    year = datetime.now(UTC).year
    name = f"wj/yearly-{int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) // 60}"
    long_ago = json.dumps({"status": {"lastScheduleTime": f"{year - 1}-01-01T00:00:00Z"}})

    def begin():
        kubectl.apply(
            {
                "apiVersion": "trireme.dev/v1alpha1",
                "kind": "WorkerCronJob",
                "metadata": {"name": "yearly"},
                "spec": spec,
            }
        )
        kubectl("patch", "wcj/yearly", "--subresource=status", "--type=merge", f"--patch={long_ago}")
        kubectl("patch", "wcj/yearly", "--type=merge", '--patch={"spec": {"suspend": false}}')

    def done():
        active = kubectl.get("wcj/yearly").get("status", {}).get("active", [])
        jobs = kubectl("get", "wj", "--output=name").split()
        assert len(jobs) <= 1
        return len(active) == 1 and jobs and reconciled(kubectl, name, ClusterReady="False")()

    def clear():
        kubectl("delete", "wcj/yearly", "--wait")
        until(lambda: not kubectl("get", "wj", "--output=name").strip())

    writes = survives(kubectl, begin=begin, done=done, names=["wcj/yearly", name], clear=clear)
    assert {"create", "write_status", "record"} <= set(writes)


def test_nothing_is_written_while_nothing_changes(kubectl):
    # Suspended, so that they wait for nothing: what waits is looked after.
    engines = {"numbers": "dask", "tasks": "celery", "tables": "spark"}
    kubectl.apply(*(cluster(name=name, engine=engine, suspend=True) for name, engine in engines.items()))
    settled = [reconciled(kubectl, f"wc/{name}", Progressing="False") for name in engines]
    operate(kubectl.namespace, lambda: all(question() for question in settled))
    assert operate(kubectl.namespace, lambda: True) == []
