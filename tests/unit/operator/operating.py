"""What the tests of the operator share: clusters and jobs as an API server gives them, and such a server in memory."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import jsonschema

from trireme_operator import crds
from trireme_operator.api import API_VERSION, CHART_KINDS, JOB, WATCHED, Key, Kind, Object, key_of, owner_reference
from trireme_operator.charts import Charts, InProcess
from trireme_operator.plan import cluster as cluster_plan
from trireme_operator.plan.action import Delete, Patch
from trireme_operator.plan.conditions import timestamp
from trireme_operator.reconcile import Reconciler
from trireme_operator.store import Store

CHARTS = Path(__file__).resolve().parents[3] / "charts"
ENGINES = ("dask", "spark", "celery")
NAMESPACE = "team"
EARLIER = "2026-01-01T00:00:00Z"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STAMP = "2026-01-02T03:04:05Z"

# Loading a chart takes much longer than rendering it.
charts = Charts(CHARTS, InProcess())


def cluster(engine: str = "dask", name: str = "numbers", status: Object | None = None, **spec: Any) -> Object:
    found: Object = {
        "apiVersion": API_VERSION,
        "kind": "WorkerCluster",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "generation": 3},
        "spec": {"engine": engine, **spec},
    }
    return found if status is None else {**found, "status": status}


def group(name: str = "big", status: Object | None = None, cluster: str = "numbers", **spec: Any) -> Object:
    """Make a WorkerGroup of the cluster `numbers`."""
    found: Object = {
        "apiVersion": API_VERSION,
        "kind": "WorkerGroup",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-group-{name}", "generation": 2},
        "spec": {"clusterRef": {"name": cluster}, **spec},
    }
    return found if status is None else {**found, "status": status}


def job(name: str = "mean", status: Object | None = None, driver: Object | None = None, **spec: Any) -> Object:
    """Make a WorkerJob; it borrows the cluster `numbers` unless it is given a clusterTemplate."""
    if "clusterTemplate" not in spec:
        spec.setdefault("clusterRef", {"name": "numbers"})
    found: Object = {
        "apiVersion": API_VERSION,
        "kind": "WorkerJob",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-job-{name}", "generation": 2},
        "spec": {"driver": driver or {"script": "print(1)"}, **spec},
    }
    return found if status is None else {**found, "status": status}


def cron_job(name: str = "nightly", status: Object | None = None, **spec: Any) -> Object:
    """Make a WorkerCronJob; its jobs borrow the cluster `numbers` unless it is given a jobTemplate."""
    spec.setdefault("jobTemplate", {"spec": job()["spec"]})
    found: Object = {
        "apiVersion": API_VERSION,
        "kind": "WorkerCronJob",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-cron-{name}", "generation": 1},
        "spec": {"schedule": "0 * * * *", **spec},
    }
    return found if status is None else {**found, "status": status}


def condition(type_: str, status: str, reason: str = "Because", since: str = EARLIER) -> Object:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": "so it is",
        "lastTransitionTime": since,
        "observedGeneration": 1,
    }


def conditions(status: Object) -> dict[str, Object]:
    found = {item["type"]: item for item in status["conditions"]}
    assert len(found) == len(status["conditions"])
    return found


def owned(item: Object, owner: Object) -> Object:
    """Return the item as it is seen when the owner made it."""
    metadata = {"namespace": NAMESPACE, "uid": f"uid-of-{item['metadata']['name']}", **item["metadata"]}
    return {**item, "metadata": {**metadata, "ownerReferences": [owner_reference(owner)]}}


def workers_of(item: Object) -> Object:
    """Return the Deployment of a cluster's workers, as it is seen when its chart was applied."""
    metadata = item["metadata"]
    rendered = charts.render(item["spec"]["engine"], metadata["name"], metadata["namespace"], cluster_plan.values(item))
    (found,) = [one for one in rendered if key_of(one) == cluster_plan.worker_key(item)]
    return owned(deepcopy(found), item)


def environment(pod: Object) -> Object:
    """Variables by name, as the container gets them: the last of a name wins."""
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in pod["containers"][0]["env"]}


def status_validator(crd: Object) -> jsonschema.Draft202012Validator:
    """Return a validator that refuses what an API server would drop from a status."""
    return jsonschema.Draft202012Validator(closed(schema_of(crd)["properties"]["status"]))


def schema_of(crd: Object) -> Object:
    found: Object = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def closed(schema: Any) -> Any:
    """Refuse unknown fields, which an API server prunes silently."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    # A property may itself be called "properties"; a schema's own is a map of schemas.
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        found["additionalProperties"] = False
    return found


STATUS = {
    "WorkerCluster": status_validator(crds.worker_cluster()),
    "WorkerGroup": status_validator(crds.worker_group()),
    "WorkerJob": status_validator(crds.worker_job()),
    "WorkerCronJob": status_validator(crds.worker_cron_job()),
}


Result = TypeVar("Result")


class _NoWait(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    """Instead of waiting, says how long it would have."""

    waited = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("waits for ever")
        self.waited += max(timeout, 0)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    """A loop whose clock goes on only by what it would have waited."""

    def __init__(self) -> None:
        self._no_wait = _NoWait()
        super().__init__(self._no_wait)

    def time(self) -> float:
        return self._no_wait.waited


def run(test: Callable[[], Awaitable[Result]]) -> Result:
    """Run to the end without waiting for anything: timers are due at once, in their order."""

    async def whole() -> Result:
        return await test()

    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(whole())


RECONCILED = ("WorkerCluster", "WorkerGroup", "WorkerJob", "WorkerCronJob")


class Crash(Exception):
    """The operator's process ends here."""


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Twin:
    """An API server in memory, its controllers included, and the store of an operator that sees all of it at once.

    Args:
        crash_after: the number of the write after which the operator's process ends, once; None for never.
        watches_lag: whether the store learns of what is written only when `catch_up` is called.
        collects_later: whether what a deleted object owned stays until `collect` is called.
    """

    def __init__(self, crash_after: int | None = None, watches_lag: bool = False, collects_later: bool = False) -> None:
        self.objects: dict[Key, Object] = {}
        self.writes: list[tuple[str, Key]] = []
        self.events: list[Object] = []
        self.output = "0.5\n"
        self.failed_creates: dict[Key, str] = {}
        self.failed_mounts: dict[Key, str] = {}
        self.clock = Clock()
        self.store = Store()
        self.watches_lag = watches_lag
        self.collects_later = collects_later
        self._crash_after = crash_after
        self._version = 0
        self._watched = {kind.kind for kind in WATCHED}

    # What the operator calls.

    async def apply(self, item: Object) -> Object:
        old = self.objects.get(key_of(item), {})
        self._save({**old, **deepcopy(item), "metadata": {**old.get("metadata", {}), **deepcopy(item["metadata"])}})
        self._wrote("apply", key_of(item))
        return deepcopy(self.objects[key_of(item)])

    async def check(self, item: Object) -> None:
        """Accept anything; a test that refuses something replaces it."""

    async def create(self, item: Object) -> bool:
        made = key_of(item) not in self.objects
        if made:
            self._save(deepcopy(item))
        self._wrote("create", key_of(item))
        return made

    async def patch(self, patch: Patch) -> None:
        key = Key(patch.kind.kind, patch.namespace, patch.name)
        if key in self.objects:
            self._save(merged(self.objects[key], patch.body))
        self._wrote("patch", key)

    async def delete(self, delete: Delete) -> None:
        key = Key(delete.kind.kind, delete.namespace, delete.name)
        if self.objects.get(key, {"metadata": {"uid": None}})["metadata"]["uid"] == delete.uid:
            self.remove(key)
        self._wrote("delete", key)

    async def write_status(self, key: Key, status: Object) -> None:
        if key in self.objects:
            item = merged(self.objects[key], {"status": status})
            STATUS[key.kind].validate(item["status"])
            self._save(item)
        self._wrote("status", key)

    async def log_tail(self, namespace: str, pod: str, lines: int) -> str:
        text = self.output if Key("Pod", namespace, pod) in self.objects else ""
        return "".join(text.splitlines(keepends=True)[-lines:])

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return deepcopy(self.objects.get(Key(kind.kind, namespace, name)))

    async def failed_create(self, item: Object) -> str | None:
        return self.failed_creates.get(key_of(item))

    async def failed_mount(self, pod: Object) -> str | None:
        return self.failed_mounts.get(key_of(pod))

    async def record(self, event: Object) -> None:
        self.events.append(event)
        self._wrote("event", key_of(event))

    # What others do.

    def put(self, item: Object) -> None:
        """Take in what a user or a controller writes."""
        self._save(deepcopy(item))

    def put_uncopied(self, item: Object) -> None:
        """Take in what a user writes that is nested too deeply to be copied."""
        self._save({**item, "metadata": {**item["metadata"]}})

    def remove(self, key: Key) -> None:
        """Delete an object, and all that it owns."""
        self.objects.pop(key, None)
        if not self.watches_lag:
            self.store.remove(key)
        if not self.collects_later:
            self.collect()

    def collect(self) -> None:
        """Delete what is left of owners that are gone."""
        there = {item["metadata"]["uid"] for item in self.objects.values()}
        for key, item in list(self.objects.items()):
            owners = {owner["uid"] for owner in item["metadata"].get("ownerReferences", [])}
            if owners and not owners & there:
                self.remove(key)

    def catch_up(self) -> None:
        """Let the store see all that is there, and nothing else."""
        for kind in self._watched:
            self.store.replace(kind, [item for key, item in self.objects.items() if key.kind == kind])

    def control(self) -> bool:
        """Let every controller do its part once; tell whether any had something to do."""
        before = self._version
        for item in list(self.objects.values()):
            if item["kind"] in ("Deployment", "StatefulSet"):
                count = item["spec"]["replicas"]
                counts = {"replicas": count, "updatedReplicas": count, "readyReplicas": count}
                self._report(item, {**counts, "observedGeneration": item["metadata"]["generation"]})
            elif item["kind"] == JOB.kind:
                self._run(item)
        return self._version != before

    def _run(self, driver: Object) -> None:
        """Start the driver's pod; end it at the next turn."""
        name = driver["metadata"]["name"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{name}-1", "labels": driver["spec"]["template"]["metadata"]["labels"]},
            "status": {"phase": "Running"},
        }
        if driver["spec"].get("suspend") or driver.get("status", {}).get("succeeded"):
            return
        if "status" not in driver:
            self.put(owned(pod, driver))
            self._report(driver, {"active": 1, "startTime": EARLIER})
        else:
            end = {"succeeded": 1, "startTime": EARLIER, "completionTime": STAMP}
            self._report(driver, {**end, "conditions": [condition("Complete", "True")]})

    def _report(self, item: Object, status: Object) -> None:
        if item.get("status") != status:
            self._save({**item, "status": status})

    def _save(self, item: Object) -> None:
        key = key_of(item)
        old = self.objects.get(key)
        metadata = item["metadata"]
        metadata.setdefault("uid", f"uid-{key}")
        metadata.setdefault("creationTimestamp", timestamp(self.clock.now))
        # Defaults are the server's, not the operator's to remove.
        if key.kind == "Deployment":
            item["spec"].setdefault("progressDeadlineSeconds", 600)
        if key.kind == "Service":
            item["spec"].setdefault("clusterIP", "10.0.0.1")
        if old is None or old.get("spec") != item.get("spec"):
            metadata["generation"] = metadata.get("generation", 0) + 1
        unversioned = {**item, "metadata": {**metadata, "resourceVersion": None}}
        if old is None or unversioned != {**old, "metadata": {**old["metadata"], "resourceVersion": None}}:
            self._version += 1
            item = {**item, "metadata": {**metadata, "resourceVersion": str(self._version)}}
            self.objects[key] = item
            if key.kind in self._watched and not self.watches_lag:
                self.store.put(item)

    def _wrote(self, verb: str, key: Key) -> None:
        self.writes.append((verb, key))
        if len(self.writes) == self._crash_after:
            raise Crash

    # What the tests call.

    def reconciler(self) -> Reconciler:
        return Reconciler(self.store, self, charts, self.clock)

    def restart(self) -> None:
        """Begin with an empty store, filled with what is there."""
        self.store = Store()
        for item in self.objects.values():
            if item["kind"] in self._watched:
                self.store.put(item)

    async def settle(self) -> None:
        """Reconcile and let the controllers work until nothing moves any more."""
        for _ in range(50):
            done = len(self.writes)
            for key in [key for key in self.objects if key.kind in RECONCILED]:
                try:
                    await self.reconciler().reconcile(key)
                except Crash:
                    self.restart()
            if not self.control() and len(self.writes) == done:
                return
        raise AssertionError(f"still writing: {self.writes[done:]}")

    def state(self) -> dict[Key, Object]:
        """What is there, without what differs from one run to the next: versions, and passwords."""
        found = {}
        for key, item in self.objects.items():
            metadata = {
                name: value for name, value in item["metadata"].items() if name not in ("resourceVersion", "generation")
            }
            found[key] = {**item, "metadata": metadata, "stringData": None}
            if key.kind in ("Deployment", "StatefulSet"):
                found[key]["status"] = {**item.get("status", {}), "observedGeneration": None}
            # How the cluster was when the job ended is a matter of the moment.
            if key.kind == "WorkerJob" and "output" in item.get("status", {}):
                told = [one for one in item["status"]["conditions"] if one["type"] != "ClusterReady"]
                found[key]["status"] = {**item["status"], "conditions": told}
        return found


def merged(item: Any, patch: Any) -> Any:
    """Return the item after a JSON merge patch."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    found = dict(item) if isinstance(item, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def chart_objects(engine: str, name: str = "numbers", **values: Any) -> dict[tuple[str, str], Object]:
    return {(item["kind"], item["metadata"]["name"]): item for item in charts.render(engine, name, NAMESPACE, values)}


CHART_KIND_NAMES = {kind.kind for kind in CHART_KINDS}
