"""One key: observe, plan, execute, report."""

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from trireme_operator import events, metrics
from trireme_operator.api import (
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    KINDS,
    POD,
    QUOTA_SHORT,
    STATEFUL_SET,
    WORKER_CLUSTER,
    WORKER_CRON_JOB,
    WORKER_GROUP,
    WORKER_JOB,
    Key,
    Object,
    cluster_name,
    is_group,
    key_of,
    owned_by,
)
from trireme_operator.charts import ChartProblem, Charts
from trireme_operator.client import FAILURES, Client, Refused
from trireme_operator.inventory import engine_of
from trireme_operator.plan import cluster as cluster_plan
from trireme_operator.plan import cron as cron_plan
from trireme_operator.plan import depth
from trireme_operator.plan import group as group_plan
from trireme_operator.plan import job as job_plan
from trireme_operator.plan.action import Patch, Plan
from trireme_operator.plan.attempts import DRIVER, Forgetting
from trireme_operator.plan.conditions import find, is_true, moment, timestamp
from trireme_operator.plan.difference import correction, merge_patch, must_apply
from trireme_operator.plan.pods import Trouble, long_about_to_start, not_made, not_mounted
from trireme_operator.plan.scaling import Scaling
from trireme_operator.store import Store

logger = logging.getLogger(__name__)

LOG_LINES = 1000
# So long after its end a driver's log is asked for, if its node does not answer, and tried to be kept.
_LOG_SECONDS = 30.0
# Enough to be guessed never; letters and digits, because it becomes part of a URL.
_PASSWORD_BYTES = 24
_REMEMBERED = 1000
_HAVE_PODS = (DEPLOYMENT.kind, STATEFUL_SET.kind)
# A quota counts a pod that has gone for about a second more.
_SURE_SECONDS = 3.0
_MOUNT_ASKED = timedelta(seconds=30)


class Decision(NamedTuple):
    """What to do about one object, and how to say how it stands after that.

    Args:
        plan: what to do.
        status: returns the status to write, given what the API server refused of the plan; None to leave it.
    """

    plan: Plan
    status: Callable[[Trouble | None], Object | None]


async def _any(_: Object) -> None:
    """Leave it to Kubernetes which workers go."""


class Reconciler:
    """Brings clusters, groups and jobs to what they should be.

    Args:
        store: what was last seen.
        client: for what has to change.
        charts: the engine charts.
        registry: where the engines' images are by default; see `Settings`.
        clock: tells the time, with its zone.
        scaling: tells what the autoscaler last decided about a cluster.
        metrics_from: who may read the metrics of all clusters; see `Settings`.
        choose: says which workers of a cluster may go first, before there are to be fewer.
    """

    def __init__(
        self,
        store: Store,
        client: Client,
        charts: Charts,
        clock: Callable[[], datetime],
        registry: str = "",
        scaling: Callable[[Object], Scaling | None] = lambda _: None,
        metrics_from: Sequence[Object] = (),
        choose: Callable[[Object], Awaitable[None]] = _any,
    ) -> None:
        self._store = store
        self._client = client
        self._charts = charts
        self._clock = clock
        self._registry = registry
        self._scaling = scaling
        self._metrics_from = metrics_from
        self._choose = choose
        self._wanted: OrderedDict[str, tuple[list[Object], list[Object]]] = OrderedDict()
        self._short_since: dict[str, datetime] = {}
        self._mounts: OrderedDict[str, tuple[datetime, str | None]] = OrderedDict()

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile one cluster, group, job or cron job.

        Returns:
            Seconds after which to do so again though nothing is seen to change; None for never.

        Raises:
            Refused: the API server refuses a write, which the status says; to be tried again later.
            ApiError: a call failed; to be tried again later.
        """
        item = self._store.get(key)
        if item is None or "deletionTimestamp" in item["metadata"] or job_plan.is_anothers(item):
            return None
        reconciles = {
            WORKER_CLUSTER.kind: self._cluster,
            WORKER_GROUP.kind: self._group,
            WORKER_CRON_JOB.kind: self._cron,
        }
        decision = await reconciles.get(key.kind, self._job)(item)
        try:
            await self._execute(decision.plan)
        except Refused as refusal:
            trouble = Trouble(refusal.reason, str(refusal)) if refusal.reason else not_made(str(refusal))
            await self._report(item, decision.status(trouble))
            raise
        await self._report(item, decision.status(None))
        return decision.plan.again

    async def _group(self, group: Object) -> Decision:
        cluster = self._cluster_of(group)
        if cluster is None:
            return self._refused(group, group_plan.no_cluster(group))
        if patch := group_plan.adoption(group, cluster):
            # First of all: from then on whatever is made ends with the cluster. It is asked for anew by that change.
            return Decision(Plan(patch=[patch]), lambda _: None)
        if field := depth.too_deep(group):
            return self._refused(group, Trouble("InvalidSpec", depth.told(field)))
        if field := depth.too_deep(cluster):
            told = f"of WorkerCluster {cluster['metadata']['name']}: {depth.told(field)}"
            return self._refused(group, Trouble("InvalidSpec", told))
        whole = group_plan.complete(group, cluster)
        if problem := group_plan.unfit(group, cluster):
            return self._refused(whole, problem)
        return await self._workers(whole, [one for one in self._groups(cluster) if key_of(one) != key_of(group)])

    async def _cron(self, cron: Object) -> Decision:
        now = self._clock()

        def jobs() -> list[Object]:
            return [item for item in self._store.owned(cron) if item["kind"] == WORKER_JOB.kind]

        if field := depth.too_deep(cron):
            problem = Trouble("InvalidSpec", depth.told(field))
            return Decision(Plan(), lambda _: cron_plan.status(cron, jobs(), now, Plan(), problem))
        plan = cron_plan.plan(cron, jobs(), now)
        return Decision(plan, lambda refusal: cron_plan.status(cron, jobs(), now, plan, refusal))

    async def _cluster(self, cluster: Object) -> Decision:
        if field := depth.too_deep(cluster):
            return self._refused(cluster, Trouble("InvalidSpec", depth.told(field)))
        if problem := cluster_plan.misplaced(cluster):
            return self._refused(cluster, problem)
        return await self._workers(cluster, self._groups(cluster))

    def _refused(self, cluster: Object, problem: Trouble) -> Decision:
        observed, now = self._observe(cluster), self._clock()
        if not is_group(cluster):
            observed = replace(observed, has_control=cluster_plan.control_key(cluster) in observed.objects)
        return Decision(Plan(), lambda _: cluster_plan.status(cluster, observed, now, problem))

    async def _workers(self, cluster: Object, groups: list[Object]) -> Decision:
        """Decide about a cluster, or a group with all it takes from its cluster, beside other groups of that."""
        now = self._clock()
        metadata, engine = cluster["metadata"], cluster["spec"]["engine"]
        observed = self._observe(cluster)
        try:
            values = cluster_plan.values(cluster, self._registry, groups, self._metrics_from)
            rendered = self._charts.render(engine, metadata["name"], metadata["namespace"], values)
        except ChartProblem as refusal:
            return self._refused(cluster, Trouble("InvalidSpec", str(refusal)))
        wanted = self._owned(cluster, rendered)
        for item in wanted:
            found = self._store.get(key_of(item))
            if found and not owned_by(found, cluster):
                return self._refused(cluster, cluster_plan.taken(found, cluster))
        has_control = cluster_plan.control_key(cluster) in map(key_of, wanted)
        unknown = cluster_plan.adapter(cluster).unknown(values.get("config") or {}, self._charts.config_schema(engine))
        trouble = None
        if cluster_plan.worth_a_closer_look(cluster, "Ready", now):
            trouble = await self._look_closer(cluster)
        if cluster_plan.shrinks(cluster, observed):
            await self._choose(cluster)
            now_seen = self._store.get(key_of(cluster))
            if now_seen is None or now_seen["metadata"]["generation"] != metadata["generation"]:
                # It has another size by now, perhaps, and is asked for anew by that change.
                return Decision(Plan(), lambda _: None)
        plan = cluster_plan.plan(cluster, wanted, observed, secrets.token_hex(_PASSWORD_BYTES), now)
        if plan.renew:
            theirs = [cluster_plan.worker_key(group) for group in groups]
            plan.renew += [cluster_plan.renewal(key, now) for key in theirs if self._store.get(key)]
        quotas = self._store.quotas(metadata["namespace"])
        short = cluster_plan.lacks_quota(cluster, wanted, observed.pods, quotas) if quotas else None
        if (wait := self._unsure(cluster, bool(observed.objects), short, now)) is not None:
            short = None
            plan.again = min(wait, plan.again or wait)

        def status(problem: Trouble | None) -> Object:
            after = replace(
                self._observe(cluster), has_control=has_control, trouble=trouble, short=short, unknown=unknown
            )
            return cluster_plan.status(cluster, after, now, problem)

        return Decision(plan, status)

    def _unsure(self, item: Object, in_flight: bool, short: Trouble | None, now: datetime) -> float | None:
        """Return for how long a shortage is not to be told yet; None if it may be.

        Pods and what a quota counts of them are seen one after the other: it may be about a pod that was just made, or
        has just gone. Nothing is in flight of a cluster that has no objects yet, or of a job that has no driver.
        """
        uid = item["metadata"]["uid"]
        if short is None:
            self._short_since.pop(uid, None)
            return None
        since = self._short_since.setdefault(uid, now)
        if len(self._short_since) > _REMEMBERED:
            self._short_since.pop(next(iter(self._short_since)))
        left = _SURE_SECONDS - (now - since).total_seconds()
        is_told = any(one["type"] == QUOTA_SHORT for one in item.get("status", {}).get("conditions", []))
        return left if left > 0 and in_flight and not is_told else None

    def _owned(self, cluster: Object, rendered: list[Object]) -> list[Object]:
        """Return what a chart gave as the cluster's own; made once for each rendering."""
        uid = cluster["metadata"]["uid"]
        before, wanted = self._wanted.get(uid, (None, []))
        if before is not rendered:
            wanted = cluster_plan.owned(cluster, rendered)
            self._wanted[uid] = (rendered, wanted)
            if len(self._wanted) > _REMEMBERED:
                self._wanted.popitem(last=False)
        self._wanted.move_to_end(uid)
        return wanted

    def _observe(self, cluster: Object) -> cluster_plan.Observed:
        pods = self._store.pods(cluster["metadata"]["namespace"], cluster_name(cluster))
        observed = cluster_plan.Observed.of(cluster, self._store.owned(cluster), pods)
        return replace(observed, scaling=self._scaling(cluster), answers=self._answers(cluster))

    def _answers(self, group: Object) -> bool | None:
        """Tell whether the engine of a group's cluster answers, as far as can be seen; None of a cluster."""
        if not is_group(group):
            return None
        cluster = self._cluster_of(group)
        found = {key_of(item): item for item in self._store.owned(cluster)} if cluster else {}
        if cluster and (control := found.get(cluster_plan.control_key(cluster))):
            return int(control.get("status", {}).get("readyReplicas", 0)) > 0
        # Workers are made after their control pod: where they alone are there, it is elsewhere.
        return bool(cluster and cluster_plan.worker_key(cluster) in found)

    def _cluster_of(self, group: Object) -> Object | None:
        """Return a group's cluster, unless it is about to go."""
        found = self._store.get(Key(WORKER_CLUSTER.kind, group["metadata"]["namespace"], cluster_name(group)))
        return found if found and "deletionTimestamp" not in found["metadata"] else None

    def _groups(self, cluster: Object) -> list[Object]:
        return self._store.groups(cluster["metadata"]["namespace"], cluster["metadata"]["name"])

    async def _look_closer(self, cluster: Object) -> Trouble | None:
        """Ask for what no object's status tells: what pods can't mount, a StatefulSet that can't make pods."""
        code = cluster["spec"].get("code", {}).get("configMap")
        if code and await self._client.get(CONFIG_MAP, cluster["metadata"]["namespace"], code) is None:
            return cluster_plan.missing_code("spec.code.configMap", code)
        pods = self._store.pods(cluster["metadata"]["namespace"], cluster_name(cluster))
        own = [] if is_group(cluster) else cluster_plan.of_component(pods, cluster_plan.adapter(cluster).control)
        if trouble := await self._not_mounted([*own, *cluster_plan.workers_among(pods, cluster)]):
            return trouble
        control = None if is_group(cluster) else self._store.get(cluster_plan.control_key(cluster))
        if control is None or control.get("status", {}).get("replicas"):
            return None
        message = await self._client.failed_create(control)
        return not_made(message, cluster_plan.control_fields(cluster)) if message else None

    async def _job(self, job: Object) -> Decision:
        namespace, now = job["metadata"]["namespace"], self._clock()
        # One of that name may still be there from an earlier job, or be somebody else's.
        driver = self._store.get(Key(JOB.kind, namespace, job_plan.driver_name(job)))
        driver = driver if driver and owned_by(driver, job) else None
        pods = self._pods(driver)
        output = log = trouble = None
        if driver and job_plan.wants_output(job, driver) and pods:
            log = await self._log(driver, pods[-1], now)
            output = job_plan.last_lines(log or "", engine_of(job, self._store))
        if driver and cluster_plan.worth_a_closer_look(job, "DriverRunning", now):
            trouble = await self._look_closer_at_driver(job, driver, pods)
        cluster = self._store.get(Key(WORKER_CLUSTER.kind, namespace, job_plan.cluster_name(job)))
        short = job_plan.lacks_quota(job, driver, pods, self._store.quotas(namespace))
        wait = self._unsure(job, driver is not None, short, now)
        observed = job_plan.Observed(
            cluster=cluster,
            workers=self._store.get(cluster_plan.worker_key(cluster)) if cluster else None,
            driver=driver,
            pods=pods,
            failed=self._store.failed(driver) if driver else (),
            output=output,
            log=log if log and log != output else None,
            trouble=trouble,
            short=short if wait is None else None,
            forgetting=self._forgetting(cluster) if cluster and driver else None,
        )
        if job_plan.has_ended(job):
            return Decision(job_plan.plan(job, observed, now), lambda _: None)
        field = depth.too_deep(job)
        problem = Trouble("Invalid", depth.told(field)) if field else None
        plan = Plan() if problem else job_plan.plan(job, observed, now)
        if wait is not None:
            plan.again = min(wait, plan.again or wait)

        def status(refusal: Trouble | None) -> Object | None:
            if refusal and driver and observed.log and _is_recent(driver, now):
                # An earlier job's log may be about to go; once it is told that this one has ended, nobody tries again.
                return None
            return job_plan.status(job, observed, now, refusal or problem)

        return Decision(plan, status)

    def _forgetting(self, cluster: Object) -> Forgetting | None:
        """Return the control pod of a cluster if it has forgotten drivers; those of a server there are its clients."""
        pods = self._store.pods(cluster["metadata"]["namespace"], cluster["metadata"]["name"])
        if any(cluster_plan.of_component(pods, server) for server in cluster_plan.adapter(cluster).servers):
            return None
        return cluster_plan.forgetting(cluster, pods)

    async def _log(self, driver: Object, pod: Object, now: datetime) -> str | None:
        """Return the end of a driver's log; None if it can't be read, and probably never will be."""
        try:
            text = await self._client.log_tail(pod["metadata"]["namespace"], pod["metadata"]["name"], LOG_LINES)
        except FAILURES:
            if _is_recent(driver, now):
                raise
            return None
        return text.strip()

    async def _look_closer_at_driver(self, job: Object, driver: Object, pods: list[Object]) -> Trouble | None:
        """Ask for what no pod's status tells: what it can't mount, a Job that can't make it."""
        code = job_plan.code(job)
        if code and await self._client.get(CONFIG_MAP, job["metadata"]["namespace"], code) is None:
            return cluster_plan.missing_code("spec.driver.code.configMap", code)
        if pods:
            return await self._not_mounted(pods[-1:])
        message = await self._client.failed_create(driver)
        return not_made(message, DRIVER) if message else None

    async def _not_mounted(self, pods: Sequence[Object]) -> Trouble | None:
        """Ask a pod's events for what it can't mount, now and then: many that start at once all take their time."""
        now = self._clock()
        pod = long_about_to_start(pods, now)
        if pod is None:
            return None
        uid = pod["metadata"]["uid"]
        since, message = self._mounts.get(uid, (None, None))
        if since is None or now - since >= _MOUNT_ASKED:
            message = await self._client.failed_mount(pod)
            self._mounts[uid] = (now, message)
            if len(self._mounts) > _REMEMBERED:
                self._mounts.popitem(last=False)
        return not_mounted(message) if message else None

    def _pods(self, driver: Object | None) -> list[Object]:
        """Return a driver's pods, oldest first."""
        pods = [item for item in self._store.owned(driver) if item["kind"] == POD.kind] if driver else []
        return sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    async def _execute(self, plan: Plan) -> None:
        made = [item for item in plan.create if await self._client.create(item)]
        for item in made:
            logger.info("created", extra={"object": str(key_of(item))})
        for patch in plan.renew if made else ():
            await self._patch(patch)
        await self._apply_all(await self._to_apply(plan.apply))
        for item in plan.start:
            await self._start(item)
        for patch in plan.patch:
            await self._patch(patch)
        for delete in plan.delete:
            logger.info("deleting", extra={"object": f"{delete.kind.kind}/{delete.namespace}/{delete.name}"})
            await self._client.delete(delete)

    async def _patch(self, patch: Patch) -> None:
        logger.info("patching", extra={"object": f"{patch.kind.kind}/{patch.namespace}/{patch.name}"})
        await self._client.patch(patch)

    async def _to_apply(self, wanted: list[Object]) -> list[Object]:
        """Return the objects that differ; of a change of several, all are asked for before any is made.

        Half of a change may start a scheduler anew, which forgets all work, for a field that another object is refused
        for. While nothing is there, nothing can be lost, and nobody is asked.
        """
        before = {key_of(item): self._store.get(key_of(item)) for item in wanted}
        differing = [item for item in wanted if must_apply(item, before[key_of(item)])]
        if len(differing) > 1 and any(before[key_of(item)] for item in differing):
            for item in differing:
                _must_be_same_owners(item, before[key_of(item)])
                await self._client.check(item)
        return differing

    async def _start(self, item: Object) -> None:
        key = key_of(item)
        logger.info("starting", extra={"object": str(key)})
        if await self._client.create(item):
            return
        # Either the watch has not shown it yet, or it is another one's: an earlier job's that still goes, or a user's.
        _must_be_same_owners(item, await self._client.get(KINDS[key.kind], key.namespace, key.name))

    async def _apply_all(self, items: list[Object]) -> None:
        """Apply objects side by side, but what pods need before the pods."""
        for _, some in groupby(items, lambda item: item["kind"] in _HAVE_PODS):
            for failure in await asyncio.gather(*map(self._apply, some), return_exceptions=True):
                if failure:
                    raise failure

    async def _apply(self, item: Object) -> None:
        key = key_of(item)
        before = self._store.get(key)
        if not must_apply(item, before):
            return
        _must_be_same_owners(item, before)
        logger.info("applying", extra={"object": str(key)})
        applied = await self._client.apply(item)
        self._remember(before, applied)
        # Applying leaves what others added to lists, such as a variable set by hand.
        if body := correction(item, applied):
            await self._client.patch(Patch(KINDS[key.kind], key.namespace, key.name, body))

    async def _report(self, item: Object, status: Object | None) -> None:
        before = item.get("status", {})
        if status is None or status == before:
            return
        await self._client.write_status(key_of(item), merge_patch(before, status))
        self._count_end(item, status)
        # Seen at once, lest the next reconcile takes the old status for the present one.
        self._remember(item, {**item, "status": status})
        now = timestamp(self._clock())
        told = events.for_conditions(item, before.get("conditions", []), status["conditions"], now)
        for event in (*told, *events.for_runs(item, before.get("active", []), status.get("active", []), now)):
            try:
                await self._client.record(event)
            except FAILURES as error:
                # The status says it all, and is written; a namespace that is being deleted takes no events.
                logger.warning("can't record an event", extra={"error": str(error)})

    def _count_end(self, job: Object, status: Object) -> None:
        """Count a job that has ended by this status."""
        ended = {**job, "status": status}
        result = next((type_ for type_ in ("Complete", "Failed") if is_true(ended, type_)), None)
        if result is None or is_true(job, result):
            return
        end, engine = find(ended, result), engine_of(job, self._store)
        assert end
        metrics.JOBS_ENDED.labels(job["metadata"]["namespace"], engine, result, end["reason"]).inc()
        if start := status.get("startTime"):
            took = moment(status.get("completionTime") or end["lastTransitionTime"]) - moment(start)
            waited = moment(start) - moment(job["metadata"]["creationTimestamp"])
            metrics.JOB_SECONDS.labels(engine, result).observe(max(0.0, took.total_seconds()))
            metrics.JOB_WAIT_SECONDS.labels(engine).observe(max(0.0, waited.total_seconds()))

    def _remember(self, before: Object | None, after: Object) -> None:
        """Take an answer for what was there, unless a watch was quicker: it may have seen something newer."""
        if self._store.get(key_of(after)) is before:
            self._store.put(after)


def _is_recent(driver: Object, now: datetime) -> bool:
    """Tell whether it is worth trying again what can't be done with the log of a driver that has ended."""
    return now - job_plan.end(driver) < timedelta(seconds=_LOG_SECONDS)


def _must_be_same_owners(item: Object, found: Object | None) -> None:
    """Leave another one's object alone.

    Raises:
        Refused: the object that is there under this name has another owner.
    """
    if found and found["metadata"].get("ownerReferences") != item["metadata"]["ownerReferences"]:
        problem = "is there already and has another owner: delete it, or choose another name"
        raise Refused(f"{item['kind']} {item['metadata']['name']}", problem, for_good=False, reason="NameTaken")
