"""Whole reconciles, against an API server in memory."""

import asyncio
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from operating import (
    CHART_KIND_NAMES,
    EARLIER,
    ENGINES,
    NAMESPACE,
    NOW,
    STAMP,
    Crash,
    Twin,
    charts,
    cluster,
    condition,
    conditions,
    environment,
    group,
    job,
)

from trireme_operator.api import Key, Object, key_of
from trireme_operator.charts import Charts, InProcess
from trireme_operator.client import Refused
from trireme_operator.plan.conditions import timestamp
from trireme_operator.reconcile import Reconciler

NUMBERS = Key("WorkerCluster", NAMESPACE, "numbers")
MEAN = Key("WorkerJob", NAMESPACE, "mean")
WORKERS = Key("Deployment", NAMESPACE, "numbers-worker")
DRIVER = Key("Job", NAMESPACE, "mean-driver")
OWN = Key("WorkerCluster", NAMESPACE, "mean")
SCRIPT = Key("ConfigMap", NAMESPACE, "mean-script")
BROKER = Key("StatefulSet", NAMESPACE, "numbers-broker")
SECRET = Key("Secret", NAMESPACE, "numbers-auth")
# Without a script, the Job is all that there is of a driver.
COMMAND = {"command": ["python", "-m", "mean"]}


def fresh(item: Object) -> Object:
    return {**item, "metadata": {name: value for name, value in item["metadata"].items() if name != "generation"}}


def settled(*items: Object) -> Twin:
    twin = Twin()
    for item in items:
        twin.put(fresh(item))
    asyncio.run(twin.settle())
    return twin


def reconcile(twin: Twin, key: Key) -> list[tuple[str, Key]]:
    """Reconcile once; return what was written."""
    before = len(twin.writes)
    asyncio.run(twin.reconciler().reconcile(key))
    return twin.writes[before:]


def change(twin: Twin, key: Key, **spec: Any) -> None:
    item = twin.objects[key]
    twin.put({**item, "spec": {**item["spec"], **spec}})


@pytest.mark.parametrize("engine", ENGINES)
def test_a_settled_cluster_costs_no_write(engine: str) -> None:
    twin = settled(cluster(engine, replicas=2))
    told = conditions(twin.objects[NUMBERS]["status"])
    assert (told["Ready"]["status"], told["Progressing"]["status"]) == ("True", "False")
    assert reconcile(twin, NUMBERS) == []
    # Nor does an operator that knows nothing yet of what it did.
    twin.restart()
    assert reconcile(twin, NUMBERS) == []
    # Nor does time.
    twin.clock.pass_(86400)
    assert reconcile(twin, NUMBERS) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_every_object_is_written_once_on_the_way(engine: str) -> None:
    twin = settled(cluster(engine, replicas=2))
    written = Counter(write for write in twin.writes if write[0] in ("apply", "create"))
    assert set(written.values()) == {1}
    assert {key.kind for _, key in written} <= {*CHART_KIND_NAMES, "Secret"}
    assert (("create", Key("Secret", NAMESPACE, "numbers-auth")) in written) is (engine != "dask")
    verbs = {verb for verb, _ in twin.writes}
    assert verbs <= {"apply", "create", "status", "event"}


def test_a_secret_is_there_before_who_needs_it() -> None:
    twin = settled(cluster("celery"))
    assert twin.writes[0] == ("create", Key("Secret", NAMESPACE, "numbers-auth"))
    assert len(twin.objects[twin.writes[0][1]]["stringData"]["password"]) == 48


def test_only_what_differs_is_applied_again() -> None:
    twin = settled(cluster(replicas=2))
    change(twin, NUMBERS, replicas=3)
    written = reconcile(twin, NUMBERS)
    assert [write for write in written if write[0] == "apply"] == [("apply", WORKERS)]
    assert twin.objects[WORKERS]["spec"]["replicas"] == 3


@pytest.mark.parametrize("spec", [{}, {"clusterTemplate": {"spec": {"engine": "dask"}}}])
@pytest.mark.parametrize("suspend", [False, True])
def test_a_job_that_another_looks_after_is_left_alone(spec: Object, suspend: bool) -> None:
    twin = settled(cluster())
    twin.put(fresh(job(managedBy="kueue.x-k8s.io/multikueue", suspend=suspend, **spec)))
    assert reconcile(twin, MEAN) == []
    assert "status" not in twin.objects[MEAN]
    # Nor is it deleted when it says that it has ended.
    twin.put({**twin.objects[MEAN], "status": {"conditions": [condition("Complete", "True")]}})
    change(twin, MEAN, ttlSecondsAfterFinished=0)
    assert reconcile(twin, MEAN) == []


@pytest.mark.parametrize("meddle", ["deleted", "changed"])
def test_what_others_do_to_an_object_is_undone(meddle: str) -> None:
    twin = settled(cluster(replicas=2))
    before = twin.state()
    if meddle == "deleted":
        twin.remove(WORKERS)
    else:
        change(twin, WORKERS, replicas=9)
    asyncio.run(twin.settle())
    assert twin.state() == before


def test_what_is_no_longer_rendered_goes() -> None:
    twin = settled(cluster("celery", replicas=1))
    broker = Key("StatefulSet", NAMESPACE, "numbers-broker")
    assert broker in twin.objects
    change(twin, NUMBERS, values={"broker": {"url": "redis://elsewhere:6379"}})
    written = reconcile(twin, NUMBERS)
    assert ("delete", broker) in written
    assert ("delete", Key("Service", NAMESPACE, "numbers-broker")) in written
    # When all that takes its place is there, and before the status tells how it stands.
    verbs = [verb for verb, _ in written]
    assert verbs == sorted(verbs, key=["apply", "delete", "status", "event"].index)
    assert WORKERS in twin.objects


def test_refused_values_leave_what_runs_and_cost_nothing_more() -> None:
    twin = settled(cluster(replicas=2))
    before = twin.state()
    change(twin, NUMBERS, values={"nonsense": 1})
    written = reconcile(twin, NUMBERS)
    assert {verb for verb, _ in written} == {"status", "event"}
    told = conditions(twin.objects[NUMBERS]["status"])["Ready"]
    assert (told["status"], told["reason"]) == ("False", "InvalidSpec")
    assert "nonsense" in told["message"]
    assert any(event["type"] == "Warning" and "nonsense" in event["message"] for event in twin.events)
    after = twin.state()
    assert before.pop(NUMBERS) != after.pop(NUMBERS)
    assert after == before
    assert reconcile(twin, NUMBERS) == []
    # And is mended with the spec.
    change(twin, NUMBERS, values={})
    asyncio.run(twin.settle())
    assert conditions(twin.objects[NUMBERS]["status"])["Ready"]["status"] == "True"


@pytest.mark.parametrize(
    ("key", "item"),
    [
        (NUMBERS, None),
        (NUMBERS, {**cluster(), "metadata": {**cluster()["metadata"], "deletionTimestamp": "now"}}),
        (MEAN, {**job(), "metadata": {**job()["metadata"], "deletionTimestamp": "now"}}),
    ],
)
def test_what_is_going_is_left_alone(key: Key, item: Object | None) -> None:
    twin = Twin()
    if item:
        twin.put(item)
    assert asyncio.run(twin.reconciler().reconcile(key)) is None
    assert twin.writes == []


def test_events_tell_each_change_once() -> None:
    twin = settled(cluster(replicas=2))
    assert [event["reason"] for event in twin.events] == ["Ready"]
    assert {event["involvedObject"]["name"] for event in twin.events} == {"numbers"}


def test_a_field_that_is_gone_from_a_status_is_removed() -> None:
    twin = settled(cluster())
    item = twin.objects[NUMBERS]
    twin.put({**item, "status": {**item["status"], "ancient": 1}})
    assert "ancient" in twin.objects[NUMBERS]["status"]
    # Its validator allows no such field.
    assert ("status", NUMBERS) in reconcile(twin, NUMBERS)
    assert "ancient" not in twin.objects[NUMBERS]["status"]
    assert reconcile(twin, NUMBERS) == []


def template(**spec: Any) -> Object:
    # With the default that an API server fills in.
    return {"clusterTemplate": {"spec": {"engine": "dask", "replicas": 2, "suspend": False, **spec}}}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_job_with_a_cluster_of_its_own(engine: str) -> None:
    twin = settled(job(**template(engine=engine)))
    status = twin.objects[MEAN]["status"]
    assert conditions(status)["Complete"]["status"] == "True"
    assert (status["output"], status["attempts"], status["cluster"]) == ("0.5", 1, "mean")
    verbs = [write for write in twin.writes if write[0] != "event"]
    assert ("apply", OWN) in verbs
    assert ("create", DRIVER) in verbs
    assert ("apply", Key("ConfigMap", NAMESPACE, "mean-script")) in verbs
    # The driver waits for the workers.
    assert verbs.index(("create", DRIVER)) > verbs.index(("apply", Key("Deployment", NAMESPACE, "mean-worker")))
    assert verbs.count(("create", DRIVER)) == 1
    # Nothing of the cluster is left; the driver's log is.
    assert {key.kind for key in twin.objects} == {"WorkerJob", "Job", "Pod", "ConfigMap"}
    assert reconcile(twin, MEAN) == []


def test_a_borrowed_cluster_stays() -> None:
    twin = settled(cluster(replicas=1), job())
    assert conditions(twin.objects[MEAN]["status"])["Complete"]["status"] == "True"
    assert conditions(twin.objects[NUMBERS]["status"])["Ready"]["status"] == "True"
    assert reconcile(twin, MEAN) == []
    assert reconcile(twin, NUMBERS) == []


def test_a_job_goes_when_its_time_has_come() -> None:
    twin = settled(job(ttlSecondsAfterFinished=60, **template()))
    assert asyncio.run(twin.reconciler().reconcile(MEAN)) == 60
    twin.clock.pass_(59)
    assert asyncio.run(twin.reconciler().reconcile(MEAN)) == 1
    twin.clock.pass_(1)
    assert reconcile(twin, MEAN) == [("delete", MEAN)]
    assert twin.objects == {}


def test_a_suspended_job_rests_and_goes_on() -> None:
    twin = settled(job(suspend=True, driver=COMMAND, **template()))
    assert DRIVER not in twin.objects
    assert twin.objects[Key("Deployment", NAMESPACE, "mean-worker")]["spec"]["replicas"] == 0
    assert conditions(twin.objects[MEAN]["status"])["Suspended"]["status"] == "True"
    change(twin, MEAN, suspend=False)
    reconcile(twin, MEAN)
    reconcile(twin, OWN)
    assert twin.objects[Key("Deployment", NAMESPACE, "mean-worker")]["spec"]["replicas"] == 2
    asyncio.run(twin.settle())
    assert conditions(twin.objects[MEAN]["status"])["Complete"]["status"] == "True"


def test_suspending_reaches_a_driver_that_runs() -> None:
    twin = settled(cluster(replicas=1))
    twin.put(fresh(job(driver=COMMAND)))
    reconcile(twin, MEAN)
    assert DRIVER in twin.objects
    for suspend in (True, False):
        change(twin, MEAN, suspend=suspend)
        assert ("patch", DRIVER) in reconcile(twin, MEAN)
        assert twin.objects[DRIVER]["spec"]["suspend"] is suspend
        assert ("patch", DRIVER) not in reconcile(twin, MEAN)


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        ("", ""),
        ("one\n", "one"),
        ("".join(f"{number}\n" for number in range(100)), "\n".join(map(str, range(90, 100)))),
        ("x" * 5000 + "end\n", "x" * 4093 + "end"),
    ],
)
def test_the_last_lines_are_the_output(printed: str, told: str) -> None:
    twin = Twin()
    twin.output = printed
    for item in (cluster(replicas=1), job(driver=COMMAND)):
        twin.put(fresh(item))
    asyncio.run(twin.settle())
    assert twin.objects[MEAN]["status"]["output"] == told


def test_the_newest_pod_is_asked_for_its_output() -> None:
    twin = settled(cluster(replicas=1))
    twin.put(fresh(job(driver=COMMAND)))
    reconcile(twin, MEAN)
    twin.control()
    first = twin.objects[Key("Pod", NAMESPACE, "mean-driver-1")]
    asked = []

    async def log_tail(namespace: str, pod: str, lines: int) -> str:
        asked.append(pod)
        return "last"

    twin.log_tail = log_tail  # type: ignore[method-assign]
    # Names say nothing of age.
    later = {**first, "metadata": {**first["metadata"], "name": "a", "creationTimestamp": "2026-01-03T00:00:00Z"}}
    later["metadata"]["uid"] = "uid-a"
    twin.put(later)
    asyncio.run(twin.settle())
    assert asked == ["a"]


def cluster_story(engine: str) -> Any:
    """A cluster that grows, loses objects that its chart no longer has, and is suspended."""

    async def story(twin: Twin) -> None:
        twin.put(fresh(cluster(engine, replicas=2)))
        await twin.settle()
        if engine == "celery":
            change(twin, NUMBERS, replicas=3, values={"broker": {"url": "redis://elsewhere:6379"}})
            await twin.settle()
        change(twin, NUMBERS, image="another", suspend=True)
        await twin.settle()

    return story


def job_story(driver: Object) -> Any:
    async def story(twin: Twin) -> None:
        twin.put(fresh(job(driver=driver, ttlSecondsAfterFinished=60, **template(engine="celery"))))
        await twin.settle()

    return story


def suspended_story(driver: Object) -> Any:
    async def story(twin: Twin) -> None:
        twin.put(fresh(job(driver=driver, suspend=True, **template())))
        await twin.settle()
        change(twin, MEAN, suspend=False)
        await twin.settle()

    return story


def borrowing_story(driver: Object) -> Any:
    async def story(twin: Twin) -> None:
        twin.put(fresh(job(driver=driver)))
        await twin.settle()
        twin.put(fresh(cluster(replicas=1)))
        await twin.settle()

    return story


JOB_STORIES = {"job": job_story, "suspended job": suspended_story, "borrowing job": borrowing_story}
STORIES = {
    **{engine: cluster_story(engine) for engine in ENGINES},
    **{name: story(COMMAND) for name, story in JOB_STORIES.items()},
    **{f"{name} with a script": story({"script": "print(1)"}) for name, story in JOB_STORIES.items()},
}


@pytest.mark.parametrize("story", STORIES)
def test_a_crash_after_any_write_ends_the_same(story: str) -> None:
    whole = Twin()
    asyncio.run(STORIES[story](whole))
    assert len(whole.writes) > 10
    crashes = 0
    for number in range(1, len(whole.writes) + 1):
        twin = Twin(crash_after=number)
        asyncio.run(STORIES[story](twin))
        crashes += len(twin.writes) >= number
        assert twin.state() == whole.state(), f"after write {number}, {whole.writes[number - 1]}"
        # The password was not changed under a broker that runs.
        assert sum(key.kind == "Secret" for key in twin.objects) == sum(key.kind == "Secret" for key in whole.objects)
        assert twin.writes.count(("create", DRIVER)) <= 2
        # Without it, the driver's pod would wait for ever.
        assert (SCRIPT in twin.objects) is ("script" in story)
    assert crashes == len(whole.writes)


def test_a_refused_write_is_told_and_made_up_for() -> None:
    twin = Twin(crash_after=3)
    twin.put(fresh(cluster(replicas=1)))
    with pytest.raises(Crash):
        asyncio.run(twin.reconciler().reconcile(NUMBERS))
    # The same operator goes on.
    asyncio.run(twin.settle())
    assert reconcile(twin, NUMBERS) == []
    assert conditions(twin.objects[NUMBERS]["status"])["Ready"]["status"] == "True"


def test_two_operators_at_once_converge() -> None:
    twin = Twin()
    twin.put(fresh(cluster("celery", replicas=2)))
    twin.put(fresh(job(driver=COMMAND)))

    async def both() -> None:
        first, second = twin.reconciler(), twin.reconciler()
        for _ in range(8):
            for key in (NUMBERS, MEAN):
                await asyncio.gather(first.reconcile(key), second.reconcile(key))
            twin.control()

    asyncio.run(both())
    alone = settled(cluster("celery", replicas=2), job(driver=COMMAND))
    assert twin.state() == alone.state()


def test_the_first_password_stays() -> None:
    twin = settled(cluster("celery", replicas=2))
    secret = Key("Secret", NAMESPACE, "numbers-auth")
    before = twin.objects[secret]["stringData"]
    change(twin, NUMBERS, replicas=3)
    twin.restart()
    asyncio.run(twin.settle())
    assert twin.objects[secret]["stringData"] == before
    other = settled(cluster("celery", replicas=2)).objects[secret]["stringData"]
    assert other != before


def test_times_are_those_of_the_reconcilers_clock() -> None:
    twin = settled(cluster(replicas=1))
    times = {one["lastTransitionTime"] for one in twin.objects[NUMBERS]["status"]["conditions"]}
    assert times == {"2026-01-02T03:04:05Z"}
    assert {event["firstTimestamp"] for event in twin.events} == times


def refusing(twin: Twin, kind: str, for_good: bool) -> None:
    """Have the server refuse objects of a kind."""
    apply, create = twin.apply, twin.create

    def check(item: Object) -> None:
        if item["kind"] == kind:
            raise Refused(f"{kind} {item['metadata']['name']}", "not so", for_good, "Invalid" if for_good else "")

    async def apply_(item: Object) -> Object:
        check(item)
        return await apply(item)

    async def create_(item: Object) -> None:
        check(item)
        await create(item)

    async def check_(item: Object) -> None:
        check(item)

    twin.apply, twin.create, twin.check = apply_, create_, check_  # type: ignore[method-assign]


def test_a_change_is_made_whole_or_not_at_all() -> None:
    """What another object is refused for ends no scheduler."""
    twin = settled(cluster(replicas=1))
    before = {key: item for key, item in twin.objects.items() if key != NUMBERS}
    refusing(twin, "Deployment", True)
    change(twin, NUMBERS, dask={"config": {"distributed": {"scheduler": {"work-stealing": False}}}})
    with pytest.raises(Refused):
        asyncio.run(twin.reconciler().reconcile(NUMBERS))
    assert {key: item for key, item in twin.objects.items() if key != NUMBERS} == before
    assert reason(twin, NUMBERS, "Ready") == ("False", "Invalid")


def test_nobody_is_asked_beforehand_where_nothing_can_be_lost() -> None:
    """At the start of a cluster, and for one object alone, such as of another size."""
    twin, asked = Twin(), []

    async def check(item: Object) -> None:
        asked.append(key_of(item))

    twin.check = check  # type: ignore[method-assign]
    twin.put(fresh(cluster(replicas=1)))
    asyncio.run(twin.settle())
    change(twin, NUMBERS, replicas=2)
    asyncio.run(twin.settle())
    assert asked == []
    change(twin, NUMBERS, dask={"config": {"distributed": {"scheduler": {"work-stealing": False}}}})
    asyncio.run(twin.settle())
    assert set(asked) == {
        Key("ConfigMap", NAMESPACE, "numbers-conf"),
        Key("Deployment", NAMESPACE, "numbers-scheduler"),
        WORKERS,
    }


@pytest.mark.parametrize(("for_good", "reason"), [(True, "Invalid"), (False, "FailedCreate")])
def test_what_the_server_refuses_of_a_cluster_is_told(for_good: bool, reason: str) -> None:
    twin = Twin()
    twin.put(fresh(cluster(replicas=1)))
    refusing(twin, "Deployment", for_good)
    # Raised all the same, to be tried again later.
    for _ in range(2):
        with pytest.raises(Refused):
            asyncio.run(twin.reconciler().reconcile(NUMBERS))
    told = conditions(twin.objects[NUMBERS]["status"])["Ready"]
    assert (told["status"], told["reason"]) == ("False", reason)
    assert "not so" in told["message"]
    assert [verb for verb, _ in twin.writes].count("status") == 1


@pytest.mark.parametrize(
    ("for_good", "type_", "reason"), [(True, "Failed", "Invalid"), (False, "DriverRunning", "FailedCreate")]
)
def test_what_the_server_refuses_of_a_job_is_told(for_good: bool, type_: str, reason: str) -> None:
    twin = settled(cluster(replicas=1))
    twin.put(fresh(job(driver=COMMAND)))
    refusing(twin, "Job", for_good)
    with pytest.raises(Refused):
        asyncio.run(twin.reconciler().reconcile(MEAN))
    told = conditions(twin.objects[MEAN]["status"])[type_]
    assert (told["status"], told["reason"]) == (str(for_good), reason)
    assert "not so" in told["message"]
    if for_good:
        assert reconcile(twin, MEAN) == []


def test_an_object_of_somebody_else_is_not_taken() -> None:
    twin = Twin()
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "numbers-conf", "namespace": NAMESPACE},
        "data": {},
    }
    twin.put(theirs)
    twin.put(fresh(cluster(replicas=1)))
    assert {verb for verb, _ in reconcile(twin, NUMBERS)} == {"status", "event"}
    told = conditions(twin.objects[NUMBERS]["status"])["Ready"]
    assert (told["status"], told["reason"]) == ("False", "NameTaken")
    twin.remove(Key("ConfigMap", NAMESPACE, "numbers-conf"))
    asyncio.run(twin.settle())
    assert conditions(twin.objects[NUMBERS]["status"])["Ready"]["status"] == "True"


def test_items_that_others_add_to_a_list_are_removed() -> None:
    twin = settled(cluster(replicas=2))
    workers = deepcopy(twin.objects[WORKERS])
    before = deepcopy(workers["spec"])
    workers["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "BY_HAND", "value": "1"})
    twin.put(workers)
    apply = twin.apply

    async def keeping(item: Object) -> Object:
        """Apply as a server does: items that another one owns stay."""
        await apply(item)
        if key_of(item) == WORKERS:
            twin.put({**twin.objects[WORKERS], "spec": workers["spec"]})
        return twin.objects[key_of(item)]

    twin.apply = keeping  # type: ignore[method-assign]
    assert reconcile(twin, NUMBERS)[:2] == [
        ("apply", WORKERS),
        ("patch", WORKERS),
    ]
    assert twin.objects[WORKERS]["spec"] == before
    assert reconcile(twin, NUMBERS) == []


@pytest.mark.parametrize(
    ("there", "failed", "reason"),
    [
        (False, None, "CodeNotFound"),
        (True, 'Error creating: pods "x" is forbidden: exceeded quota: q', "QuotaExceeded"),
        (True, None, "ControlNotReady"),
    ],
)
def test_a_cluster_that_does_not_start_is_looked_at_closely(there: bool, failed: str | None, reason: str) -> None:
    twin = Twin()
    if there:
        twin.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tasks", "namespace": NAMESPACE}})
    if failed:
        twin.failed_creates[Key("Deployment", NAMESPACE, "numbers-scheduler")] = failed
    twin.put(fresh(cluster(replicas=1, code={"configMap": "tasks"})))
    assert asyncio.run(twin.reconciler().reconcile(NUMBERS)) == 3
    assert conditions(twin.objects[NUMBERS]["status"])["Ready"]["reason"] == "ControlNotReady"
    twin.clock.pass_(3)
    reconcile(twin, NUMBERS)
    assert conditions(twin.objects[NUMBERS]["status"])["Ready"]["reason"] == reason
    assert reconcile(twin, NUMBERS) == []


NO_SECRET = 'MountVolume.SetUp failed for volume "keys" : secret "keys" not found'


def starting_pod(name: str, component: str, **labels: str) -> Object:
    labels = {"app.kubernetes.io/instance": "numbers", "app.kubernetes.io/component": component, **labels}
    waiting = {"name": component, "image": "mine:1", "state": {"waiting": {"reason": "ContainerCreating"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "status": {"phase": "Pending", "startTime": "2026-01-02T03:04:05Z", "containerStatuses": [waiting]},
    }


@pytest.mark.parametrize("component", ["scheduler", "worker"])
def test_a_volume_that_can_not_be_mounted_is_told(component: str) -> None:
    twin = Twin()
    twin.put(fresh(cluster(replicas=1)))
    reconcile(twin, NUMBERS)
    twin.put(starting_pod("a", component))
    twin.failed_mounts[Key("Pod", NAMESPACE, "a")] = NO_SECRET
    if component == "worker":
        control = twin.objects[Key("Deployment", NAMESPACE, "numbers-scheduler")]
        twin.put({**control, "status": {"readyReplicas": 1}})
    reconciler = twin.reconciler()
    for seconds in (9, 1):
        assert reason(twin, NUMBERS, "Ready")[1] in ("ControlNotReady", "NoWorkers")
        twin.clock.pass_(seconds)
        asyncio.run(reconciler.reconcile(NUMBERS))
    assert reason(twin, NUMBERS, "Ready") == ("False", "FailedMount")
    # It is asked for now and then, and told all the time.
    del twin.failed_mounts[Key("Pod", NAMESPACE, "a")]
    twin.clock.pass_(29)
    asyncio.run(reconciler.reconcile(NUMBERS))
    assert reason(twin, NUMBERS, "Ready") == ("False", "FailedMount")
    twin.clock.pass_(1)
    asyncio.run(reconciler.reconcile(NUMBERS))
    assert reason(twin, NUMBERS, "Ready")[1] in ("ControlNotReady", "NoWorkers")


def drivers_pod(twin: Twin) -> Object:
    """Return the first pod of the job's driver, as it starts."""
    pod = starting_pod("mean-driver-1", "driver", **{"trireme.dev/job": "mean"})
    owner = {"kind": "Job", "name": DRIVER.name, "uid": twin.objects[DRIVER]["metadata"]["uid"]}
    return {**pod, "metadata": {**pod["metadata"], "ownerReferences": [owner]}}


def test_a_drivers_volume_that_can_not_be_mounted_is_told() -> None:
    twin = settled(cluster(replicas=1))
    twin.put(fresh(job(driver=COMMAND)))
    reconcile(twin, MEAN)
    twin.put(drivers_pod(twin))
    twin.failed_mounts[Key("Pod", NAMESPACE, "mean-driver-1")] = NO_SECRET
    reconcile(twin, MEAN)
    twin.clock.pass_(10)
    reconcile(twin, MEAN)
    assert reason(twin, MEAN, "DriverRunning") == ("False", "FailedMount")


def test_a_driver_that_was_evicted_and_is_gone_at_the_next_look_is_told() -> None:
    twin = settled(cluster(replicas=1))
    twin.put(fresh(job(driver=COMMAND)))
    reconcile(twin, MEAN)
    pod = drivers_pod(twin)
    twin.put(pod)
    reconcile(twin, MEAN)
    evicted = condition("DisruptionTarget", "True", "EvictionByEvictionAPI")
    twin.put({**pod, "status": {"phase": "Failed", "conditions": [evicted]}})
    twin.remove(key_of(pod))
    reconcile(twin, MEAN)
    status = twin.objects[MEAN]["status"]
    assert status["disruptions"] == 1
    (failure,) = status["failures"]
    assert (failure["pod"], failure["reason"], failure["counted"]) == ("mean-driver-1", "EvictionByEvictionAPI", False)
    for _ in range(2):
        reconcile(twin, MEAN)
        assert [twin.objects[MEAN]["status"][name] for name in ("failures", "disruptions")] == [[failure], 1]


def reason(twin: Twin, key: Key, type_: str) -> tuple[str, str]:
    found = conditions(twin.objects[key]["status"])[type_]
    return found["status"], found["reason"]


@pytest.mark.parametrize(
    ("there", "failed", "expected"),
    [
        (False, None, "CodeNotFound"),
        (False, "no such account", "CodeNotFound"),
        (True, "no such account", "FailedCreate"),
        (True, None, "Starting"),
    ],
)
def test_a_driver_whose_program_is_missing_is_looked_at_closely(there: bool, failed: str | None, expected: str) -> None:
    twin = settled(cluster(replicas=1))
    if there:
        twin.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "program", "namespace": NAMESPACE}})
    if failed:
        twin.failed_creates[DRIVER] = failed
    twin.put(fresh(job(driver={"code": {"configMap": "program"}})))
    for _ in range(2):
        reconcile(twin, MEAN)
    twin.clock.pass_(3)
    reconcile(twin, MEAN)
    assert reason(twin, MEAN, "DriverRunning") == ("False", expected)
    if expected == "CodeNotFound":
        message = conditions(twin.objects[MEAN]["status"])["DriverRunning"]["message"]
        assert message.startswith("spec.driver.code.configMap: there is no ConfigMap program ")


def test_a_driver_without_a_pod_is_looked_at_closely() -> None:
    twin = settled(cluster(replicas=1))
    twin.put(fresh(job(driver=COMMAND)))
    twin.failed_creates[DRIVER] = 'Error creating: pods "x" is forbidden: exceeded quota: q'
    reconcile(twin, MEAN)
    assert asyncio.run(twin.reconciler().reconcile(MEAN)) == 3
    assert conditions(twin.objects[MEAN]["status"])["DriverRunning"]["reason"] == "Starting"
    twin.clock.pass_(3)
    reconcile(twin, MEAN)
    assert conditions(twin.objects[MEAN]["status"])["DriverRunning"]["reason"] == "QuotaExceeded"
    assert reconcile(twin, MEAN) == []


def namesake(item: Object) -> Object:
    """Return the item as made anew after one of its name was deleted."""
    found = fresh(item)
    return {**found, "metadata": {**found["metadata"], "uid": f"{found['metadata']['uid']}-again"}}


def test_what_is_left_of_a_jobs_namesake_is_not_its_own() -> None:
    twin = settled(cluster(replicas=1), job(driver={"script": "print(1)"}))
    twin.collects_later = True
    twin.remove(MEAN)
    again = namesake(job(driver={"script": "print(2)"}))
    twin.put(again)
    for _ in range(3):
        with pytest.raises(Refused, match="has another owner"):
            reconcile(twin, MEAN)
    status = twin.objects[MEAN]["status"]
    assert (status["state"], status["attempts"]) == ("Starting", 0)
    assert not {"Complete", "Failed"} & conditions(status).keys()
    assert reason(twin, MEAN, "DriverRunning") == ("False", "NameTaken")
    twin.collect()
    asyncio.run(twin.settle())
    assert reason(twin, MEAN, "Complete") == ("True", "Completed")
    for key in (DRIVER, SCRIPT):
        (owner,) = twin.objects[key]["metadata"]["ownerReferences"]
        assert owner["uid"] == again["metadata"]["uid"]
    assert twin.objects[SCRIPT]["data"] == {"main.py": "print(2)"}


def test_the_cluster_of_a_jobs_namesake_is_not_its_own() -> None:
    twin = settled(job(suspend=True, driver=COMMAND, **template()))
    twin.collects_later = True
    twin.remove(MEAN)
    twin.put(namesake(job(driver=COMMAND, **template())))
    assert {verb for verb, _ in reconcile(twin, MEAN)} == {"status", "event"}
    assert reason(twin, MEAN, "ClusterReady") == ("False", "NameTaken")
    twin.collects_later = False
    twin.collect()
    asyncio.run(twin.settle())
    assert reason(twin, MEAN, "Complete") == ("True", "Completed")


def test_a_cluster_waits_for_its_namesakes_objects_to_go() -> None:
    twin = settled(cluster("celery", replicas=1))
    twin.collects_later = True
    twin.remove(NUMBERS)
    twin.put(namesake(cluster("celery", replicas=2)))
    before = deepcopy(twin.objects[WORKERS])
    assert {verb for verb, _ in reconcile(twin, NUMBERS)} == {"status", "event"}
    assert reason(twin, NUMBERS, "Ready") == ("False", "NameTaken")
    assert twin.objects[WORKERS] == before
    # The Secret is the last to go: meanwhile it looks as if there were one.
    for key in list(twin.objects):
        if key not in (NUMBERS, SECRET):
            twin.remove(key)
    reconcile(twin, NUMBERS)
    twin.collect()
    assert SECRET not in twin.objects
    twin.put(broker_pod(MISSED))
    reconcile(twin, NUMBERS)
    assert SECRET in twin.objects
    twin.put(broker_pod({"running": {}}))
    asyncio.run(twin.settle())
    assert reason(twin, NUMBERS, "Ready") == ("True", "Ready")


MISSED = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "numbers-auth" not found'}}


def broker_pod(state: Object) -> Object:
    labels = {"app.kubernetes.io/instance": "numbers", "app.kubernetes.io/component": "broker"}
    container = {"name": "broker", "image": "trireme/redis:dev", "state": state}
    metadata = {"name": "numbers-broker-0", "namespace": NAMESPACE, "labels": labels, "creationTimestamp": EARLIER}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"containerStatuses": [container]}}


def test_a_secret_that_was_deleted_is_made_again_when_it_is_missed() -> None:
    twin = settled(cluster("celery", replicas=1))
    twin.remove(SECRET)
    # Nobody needs it as long as all runs, nor while the broker is only slow.
    twin.put(broker_pod({"waiting": {"reason": "ContainerCreating"}}))
    broker = twin.objects[BROKER]
    twin.put({**broker, "status": {**broker["status"], "readyReplicas": 0}})
    for _ in range(3):
        reconcile(twin, NUMBERS)
        twin.clock.pass_(60)
    assert SECRET not in twin.objects
    twin.put(broker_pod(MISSED))
    assert ("create", SECRET) in reconcile(twin, NUMBERS)
    assert len(twin.objects[SECRET]["stringData"]["password"]) == 48


def test_pods_with_a_password_that_was_lost_begin_anew() -> None:
    """They would be refused by the new broker for ever; a group's, too."""
    twin = settled(cluster("celery", replicas=1), group(replicas=1))
    twin.remove(SECRET)
    twin.put(broker_pod(MISSED))
    both = {("patch", WORKERS), ("patch", Key("Deployment", NAMESPACE, "big-worker"))}
    assert {write for write in reconcile(twin, NUMBERS) if write[0] == "patch"} == both
    for _, key in both:
        assert twin.objects[key]["spec"]["template"]["metadata"]["annotations"]["trireme.dev/renewed"] == STAMP
    # Once: the pod says so for a while yet. And what was written stays.
    reconcile(twin, NUMBERS)
    assert sum(write in both for write in twin.writes) == 2
    assert "trireme.dev/renewed" in twin.objects[WORKERS]["spec"]["template"]["metadata"]["annotations"]


def spark_pod(twin: Twin, component: str, made: str, began: str) -> Object:
    """Return a pod of the cluster `numbers`, as its controller makes it."""
    kind = {"master": "StatefulSet", "connect": "Deployment"}[component]
    template = twin.objects[Key(kind, NAMESPACE, f"numbers-{component}")]["spec"]["template"]
    metadata = {"name": f"numbers-{component}-0", "namespace": NAMESPACE, "creationTimestamp": made}
    statuses = [{"name": component, "image": "x", "state": {"running": {"startedAt": began}}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "labels": template["metadata"]["labels"]},
        "spec": template["spec"],
        "status": {"phase": "Running", "containerStatuses": statuses},
    }


@pytest.mark.parametrize(("keeps", "anew"), [(False, True), (True, False)])
def test_a_connect_server_that_a_new_master_does_not_know_begins_anew(keeps: bool, anew: bool) -> None:
    master = {"persistence": {"enabled": keeps}}
    twin = settled(cluster("spark", replicas=1, spark={"mode": "connect", "master": master}))
    connect = Key("Deployment", NAMESPACE, "numbers-connect")
    twin.put(spark_pod(twin, "master", EARLIER, EARLIER))
    twin.put(spark_pod(twin, "connect", EARLIER, STAMP))
    assert not reconcile(twin, NUMBERS)
    later = timestamp(NOW + timedelta(seconds=60))
    replaced = spark_pod(twin, "master", later, later)
    twin.put(replaced)
    assert (("patch", connect) in reconcile(twin, NUMBERS)) is anew
    assert not reconcile(twin, NUMBERS)
    annotations = twin.objects[connect]["spec"]["template"]["metadata"]["annotations"]
    assert annotations.get("trireme.dev/renewed") == (later if anew else None)


@pytest.mark.parametrize(
    ("spark", "forgets"),
    [({}, True), ({"master": {"persistence": {"enabled": True}}}, False), ({"mode": "connect"}, False)],
)
def test_a_job_whose_driver_a_new_master_does_not_know_is_held(spark: Object, forgets: bool) -> None:
    """Of Spark Connect a driver is a client, which its server answers, or not."""
    twin = settled(cluster("spark", replicas=1, spark=spark))
    twin.put(fresh(job(driver=COMMAND)))
    reconcile(twin, MEAN)
    later = timestamp(NOW + timedelta(seconds=60))
    twin.put(spark_pod(twin, "master", later, later))
    if spark.get("mode"):
        twin.put(spark_pod(twin, "connect", later, later))
    item = twin.objects[DRIVER]
    labels = item["spec"]["template"]["metadata"]["labels"]
    twin.put({**item, "status": {"active": 1}})
    metadata = {"name": "mean-driver-x", "namespace": NAMESPACE, "creationTimestamp": EARLIER, "labels": labels}
    owner = {"kind": "Job", "name": "mean-driver", "uid": item["metadata"]["uid"]}
    statuses = [{"name": "driver", "image": "x", "state": {"running": {"startedAt": STAMP}}}]
    status = {"phase": "Running", "containerStatuses": statuses}
    twin.put({"kind": "Pod", "metadata": {**metadata, "ownerReferences": [owner]}, "status": status})
    reconcile(twin, MEAN)
    assert bool(twin.objects[DRIVER]["spec"].get("suspend")) is forgets
    told = conditions(twin.objects[MEAN]["status"])["DriverRunning"]
    assert told["reason"] == ("ControlReplaced" if forgets else "Running")


@pytest.mark.parametrize("engine", ["spark", "celery"])
def test_a_cluster_that_takes_its_time_is_asked_for_no_password(engine: str) -> None:
    twin = settled(cluster(engine, replicas=1))
    for key in (BROKER, Key("StatefulSet", NAMESPACE, "numbers-master")):
        if item := twin.objects.get(key):
            twin.put({**item, "status": {**item["status"], "readyReplicas": 0}})
    before = len(twin.writes)
    for _ in range(5):
        twin.restart()
        reconcile(twin, NUMBERS)
        twin.clock.pass_(10)
    assert ("create", SECRET) not in twin.writes[before:]


def test_what_is_there_already_is_not_told_as_made(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="trireme_operator.reconcile")
    twin = Twin()
    twin.put(fresh(cluster("celery")))
    twin.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET.name, "namespace": NAMESPACE}})
    reconcile(twin, NUMBERS)
    assert ("create", SECRET) in twin.writes
    assert [one.message for one in caplog.records if one.__dict__.get("object") == str(SECRET)] == []
    twin = settled(cluster("celery"))
    assert [one.message for one in caplog.records if one.__dict__.get("object") == str(SECRET)] == ["created"]


def test_what_took_the_place_of_something_to_prune_is_left() -> None:
    twin = settled(cluster("celery", replicas=1))
    service = Key("Service", NAMESPACE, "numbers-broker")
    twin.watches_lag = True
    theirs = {**twin.objects[service], "metadata": {"name": service.name, "namespace": NAMESPACE, "uid": "theirs"}}
    twin.objects.pop(service)
    twin.put(theirs)
    change(twin, NUMBERS, values={"broker": {"url": "redis://elsewhere:6379"}})
    twin.store.put(twin.objects[NUMBERS])
    written = reconcile(twin, NUMBERS)
    assert ("delete", service) in written
    assert twin.objects[service]["metadata"]["uid"] == "theirs"
    assert BROKER not in twin.objects


@pytest.mark.parametrize("engine", ENGINES)
def test_answers_are_remembered_until_the_watches_catch_up(engine: str) -> None:
    twin = Twin(watches_lag=True)
    twin.put(fresh(cluster(engine, replicas=2)))
    twin.catch_up()
    reconcile(twin, NUMBERS)
    assert reconcile(twin, NUMBERS) == []
    twin.catch_up()
    assert reconcile(twin, NUMBERS) == []


def test_the_status_is_of_what_there_is_after_the_writes() -> None:
    twin = Twin(watches_lag=True)
    twin.put(fresh(cluster(replicas=2)))
    twin.catch_up()
    reconcile(twin, NUMBERS)
    assert twin.objects[NUMBERS]["status"]["capacity"].keys() == {"threads", "memory"}


def newer(item: Object) -> Object:
    return {**item, "metadata": {**item["metadata"], "resourceVersion": "99999"}}


@pytest.mark.parametrize("meanwhile", ["changed", "removed"])
def test_an_old_answer_does_not_hide_what_the_watches_saw_since(meanwhile: str) -> None:
    twin = settled(cluster(replicas=2))
    apply, write_status = twin.apply, twin.write_status
    twin.watches_lag = True

    def see(key: Key) -> None:
        if meanwhile == "changed":
            twin.store.put(newer(twin.objects[key]))
        else:
            twin.store.remove(key)

    async def apply_(item: Object) -> Object:
        answer = await apply(item)
        see(key_of(item))
        return answer

    async def write_status_(key: Key, status: Object) -> None:
        await write_status(key, status)
        see(key)

    twin.apply, twin.write_status = apply_, write_status_  # type: ignore[method-assign]
    change(twin, NUMBERS, replicas=3)
    twin.store.put(twin.objects[NUMBERS])
    assert {("apply", WORKERS), ("status", NUMBERS)} <= set(reconcile(twin, NUMBERS))
    for key in (WORKERS, NUMBERS):
        found = twin.store.get(key)
        assert (found and found["metadata"]["resourceVersion"]) == ("99999" if meanwhile == "changed" else None)


def test_a_cluster_whose_broker_is_elsewhere() -> None:
    broker = {"broker": {"url": "redis://elsewhere:6379"}}
    twin = settled(cluster("celery", replicas=1, values=broker), job(driver=COMMAND))
    assert BROKER not in twin.objects
    assert reason(twin, NUMBERS, "Ready") == ("True", "Ready")
    assert twin.objects[NUMBERS]["status"]["endpoints"] == []
    assert reason(twin, MEAN, "Complete") == ("True", "Completed")
    found = environment(twin.objects[DRIVER]["spec"]["template"]["spec"])
    assert found["CELERY_BROKER_URL"] == "redis://elsewhere:6379"
    assert "REDIS_PASSWORD" not in found
    # With no workers, it is not ready.
    item = twin.objects[WORKERS]
    twin.put({**item, "status": {**item["status"], "readyReplicas": 0}})
    reconcile(twin, NUMBERS)
    assert reason(twin, NUMBERS, "Ready") == ("False", "NoWorkers")


def test_the_size_of_a_cluster_among_its_values_is_refused() -> None:
    twin = settled(cluster(replicas=2))
    change(twin, NUMBERS, values={"replicas": 5})
    assert {verb for verb, _ in reconcile(twin, NUMBERS)} == {"status", "event"}
    assert reason(twin, NUMBERS, "Ready") == ("False", "InvalidSpec")
    assert "spec.values.replicas" in conditions(twin.objects[NUMBERS]["status"])["Ready"]["message"]
    assert twin.objects[WORKERS]["spec"]["replicas"] == 2


def test_images_come_from_the_operators_registry() -> None:
    twin = Twin()
    twin.put(fresh(cluster()))
    asyncio.run(Reconciler(twin.store, twin, charts, twin.clock, "registry.example").reconcile(NUMBERS))
    (container,) = twin.objects[WORKERS]["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("registry.example/")


def test_prometheus_may_read_the_metrics_of_every_cluster() -> None:
    twin = Twin()
    twin.put(fresh(cluster()))
    peers = [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]
    asyncio.run(Reconciler(twin.store, twin, charts, twin.clock, metrics_from=peers).reconcile(NUMBERS))
    policy = twin.objects[Key("NetworkPolicy", NAMESPACE, "numbers")]
    assert [rule["from"] for rule in policy["spec"]["ingress"]].count(peers) == 1


def test_a_chart_that_is_not_there_is_told(tmp_path: Path) -> None:
    twin = Twin()
    twin.put(fresh(cluster()))
    asyncio.run(Reconciler(twin.store, twin, Charts(tmp_path, InProcess()), twin.clock).reconcile(NUMBERS))
    assert reason(twin, NUMBERS, "Ready") == ("False", "InvalidSpec")


def test_a_change_of_the_workers_is_progress_before_their_deployment_is_looked_at() -> None:
    twin = settled(cluster(replicas=2))
    change(twin, NUMBERS, image="another")
    reconcile(twin, NUMBERS)
    assert reason(twin, NUMBERS, "Progressing") == ("True", "WorkersChanging")
    asyncio.run(twin.settle())
    assert reason(twin, NUMBERS, "Progressing") == ("False", "Settled")


def test_a_field_that_is_no_longer_asked_for_goes() -> None:
    twin = settled(cluster(replicas=1, values={"podLabels": {"mine": "yes"}}))
    assert "mine" in twin.objects[WORKERS]["spec"]["template"]["metadata"]["labels"]
    change(twin, NUMBERS, values={})
    assert ("apply", WORKERS) in reconcile(twin, NUMBERS)
    assert "mine" not in twin.objects[WORKERS]["spec"]["template"]["metadata"]["labels"]
    twin = settled(job(suspend=True, **template(drainSeconds=5)))
    change(twin, MEAN, **template())
    assert ("apply", OWN) in reconcile(twin, MEAN)
    assert "drainSeconds" not in twin.objects[OWN]["spec"]


def test_a_limit_that_was_added_by_hand_goes() -> None:
    twin = settled(cluster(replicas=1))
    workers = deepcopy(twin.objects[WORKERS])
    before = deepcopy(workers["spec"])
    workers["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["vendor.com/gpu"] = "1"
    twin.put(workers)
    reconcile(twin, NUMBERS)
    assert twin.objects[WORKERS]["spec"] == before


def test_a_field_that_is_gone_from_a_map_of_a_status_is_removed() -> None:
    twin = settled(cluster())
    item = twin.objects[NUMBERS]
    status = {**item["status"], "capacity": {**item["status"]["capacity"], "ancient": "1"}}
    twin.put({**item, "status": status})
    assert ("status", NUMBERS) in reconcile(twin, NUMBERS)
    assert "ancient" not in twin.objects[NUMBERS]["status"]["capacity"]
    assert reconcile(twin, NUMBERS) == []


def test_a_job_waits_for_a_cluster_that_is_suspended() -> None:
    twin = settled(cluster(replicas=1, suspend=True), job(driver=COMMAND))
    assert reason(twin, NUMBERS, "Ready") == ("False", "Suspended")
    assert reason(twin, MEAN, "ClusterReady") == ("False", "Suspended")
    assert DRIVER not in twin.objects
    change(twin, NUMBERS, suspend=False)
    asyncio.run(twin.settle())
    assert reason(twin, MEAN, "Complete") == ("True", "Completed")


@pytest.mark.parametrize("spec", [{"suspend": True}, {"image": "another"}])
def test_a_job_does_not_trust_what_a_cluster_said_before_its_spec_was_changed(spec: Object) -> None:
    twin = settled(cluster(replicas=1))
    change(twin, NUMBERS, **spec)
    twin.put(fresh(job(driver=COMMAND)))
    reconcile(twin, MEAN)
    assert DRIVER not in twin.objects
    reconcile(twin, NUMBERS)
    reconcile(twin, MEAN)
    assert (DRIVER in twin.objects) is ("suspend" not in spec)


def test_a_script_is_put_back_while_its_driver_is_there() -> None:
    twin = settled(cluster(replicas=1))
    twin.put(fresh(job(driver={"script": "print(1)"})))
    reconcile(twin, MEAN)
    assert DRIVER in twin.objects
    twin.remove(SCRIPT)
    assert ("apply", SCRIPT) in reconcile(twin, MEAN)
    asyncio.run(twin.settle())
    twin.remove(SCRIPT)
    assert reconcile(twin, MEAN) == []


def test_a_refused_change_of_a_template_leaves_the_driver_running() -> None:
    twin = settled(job(suspend=True, driver=COMMAND, **template()))
    change(twin, MEAN, suspend=False)
    for key in (MEAN, OWN):
        reconcile(twin, key)
    twin.control()
    for key in (OWN, MEAN):
        reconcile(twin, key)
    assert DRIVER in twin.objects
    apply = twin.apply
    refusing(twin, "WorkerCluster", for_good=True)
    change(twin, MEAN, **template(replicas=3))
    with pytest.raises(Refused):
        reconcile(twin, MEAN)
    assert not {"Complete", "Failed"} & conditions(twin.objects[MEAN]["status"]).keys()
    assert DRIVER in twin.objects
    assert OWN in twin.objects
    twin.apply = apply  # type: ignore[method-assign]
    asyncio.run(twin.settle())
    assert reason(twin, MEAN, "Complete") == ("True", "Completed")


def test_a_script_is_there_before_the_driver() -> None:
    twin = settled(cluster(replicas=1))
    twin.put(fresh(job(driver={"script": "print(1)"})))
    written = reconcile(twin, MEAN)
    assert written.index(("apply", SCRIPT)) < written.index(("create", DRIVER))


def test_a_job_of_somebody_else_is_not_taken_for_the_driver() -> None:
    twin = settled(cluster(replicas=1))
    theirs = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "mean-driver", "namespace": NAMESPACE}}
    twin.objects[DRIVER] = {**theirs, "metadata": {**theirs["metadata"], "uid": "theirs", "resourceVersion": "1"}}
    twin.put(fresh(job(driver=COMMAND)))
    with pytest.raises(Refused, match="Job mean-driver: is there already and has another owner"):
        reconcile(twin, MEAN)
    assert reason(twin, MEAN, "DriverRunning") == ("False", "NameTaken")
    assert "Failed" not in conditions(twin.objects[MEAN]["status"])


def test_a_template_that_is_refused_does_not_hide_the_driver_that_runs() -> None:
    item = job(driver=COMMAND, **template())
    twin = Twin()
    twin.put(fresh(item))
    for _ in range(3):
        for key in (MEAN, Key("WorkerCluster", NAMESPACE, "mean")):
            if key in twin.objects:
                reconcile(twin, key)
        twin.control()
    reconcile(twin, MEAN)
    assert reason(twin, MEAN, "DriverRunning") == ("True", "Running")
    refusing(twin, "WorkerCluster", for_good=True)
    change(twin, MEAN, **template(replicas=3))
    with pytest.raises(Refused):
        reconcile(twin, MEAN)
    assert reason(twin, MEAN, "DriverRunning") == ("True", "Running")
    assert reason(twin, MEAN, "ClusterReady") == ("False", "Invalid")


def test_a_sidecar_that_others_added_is_not_the_worker() -> None:
    twin = settled(cluster(replicas=1))
    workers = twin.objects[Key("Deployment", NAMESPACE, "numbers-worker")]
    workers["spec"]["template"]["spec"]["containers"].insert(0, {"name": "proxy", "image": "proxy"})
    twin.store.put(workers)
    twin.put(fresh(job(driver=COMMAND)))
    reconcile(twin, MEAN)
    (container,) = twin.objects[DRIVER]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "trireme/dask:dev"


@pytest.mark.parametrize(
    ("engine", "values"),
    [
        ("dask", {"volumes": None, "volumeMounts": None}),
        ("celery", {"placement": None, "affinity": {"nodeAffinity": {}}}),
    ],
)
def test_a_value_that_is_null_is_as_if_it_were_not_there(engine: str, values: Object) -> None:
    data = {"volumes": [{"name": "data", "emptyDir": {}}], "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    near = {"placement": {"podLabels": {"app": "store"}}}
    twin = settled(cluster(engine, values=values, **data, **near), job(driver=COMMAND))
    assert conditions(twin.objects[NUMBERS]["status"])["Ready"]["status"] == "True"
    assert conditions(twin.objects[MEAN]["status"])["Complete"]["status"] == "True"


def test_a_configuration_that_is_null_has_no_unknown_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    render = charts.render

    def lenient(engine: str, name: str, namespace: str, values: Object) -> list[Object]:
        """Render as a chart would that minds no null."""
        return render(engine, name, namespace, {**values, "config": values["config"] or {}})

    monkeypatch.setattr(charts, "render", lenient)
    twin = settled(cluster(values={"config": None}))
    told = conditions(twin.objects[NUMBERS]["status"])
    assert told["Ready"]["status"] == "True"
    assert "ConfigUnknown" not in told


def test_keys_that_dask_does_not_know_are_told_and_taken() -> None:
    twin = settled(cluster(dask={"config": {"distributed": {"worker": {"memory": {"tarjet": 0.5}}}}}))
    told = conditions(twin.objects[NUMBERS]["status"])
    assert told["Ready"]["status"] == "True"
    assert (told["ConfigUnknown"]["status"], told["ConfigUnknown"]["reason"]) == ("True", "UnknownKeys")
    assert told["ConfigUnknown"]["message"] == (
        "spec.dask.config: distributed.worker.memory.tarjet: Dask has no such key;"
        " did you mean distributed.worker.memory.target?"
    )
    change(twin, NUMBERS, dask={"config": {"distributed": {"worker": {"memory": {"target": 0.5}}}}})
    asyncio.run(twin.settle())
    assert "ConfigUnknown" not in conditions(twin.objects[NUMBERS]["status"])


def test_a_wrong_type_of_a_key_is_refused() -> None:
    twin = settled(cluster(dask={"config": {"distributed": {"worker": {"memory": {"target": 2.0}}}}}))
    ready = conditions(twin.objects[NUMBERS]["status"])["Ready"]
    assert ready["reason"] == "InvalidSpec"
    assert "/config/distributed/worker/memory/target" in ready["message"]


# Which workers go


def shrunk(twin: Twin, meanwhile: Callable[[], None] = lambda: None) -> tuple[list[int], int]:
    """Reconcile a cluster of three that is to have one; return the workers that there were at each choice, and are."""
    change(twin, NUMBERS, replicas=1)
    before: list[int] = []

    async def choose(item: Object) -> None:
        assert key_of(item) == NUMBERS
        before.append(twin.objects[WORKERS]["spec"]["replicas"])
        meanwhile()

    asyncio.run(Reconciler(twin.store, twin, charts, twin.clock, choose=choose).reconcile(NUMBERS))
    return before, twin.objects[WORKERS]["spec"]["replicas"]


def test_who_may_go_is_chosen_before_there_are_fewer() -> None:
    twin = settled(cluster(replicas=3))
    assert shrunk(twin) == ([3], 1)
    assert shrunk(twin) == ([], 1)


def test_a_size_that_changes_while_it_is_chosen_is_not_made() -> None:
    twin = settled(cluster(replicas=3))
    assert shrunk(twin, lambda: change(twin, NUMBERS, replicas=3)) == ([3], 3)
    assert shrunk(twin) == ([3], 1)
