"""One key: observe, plan, apply, report."""

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

from trireme_operator import events
from trireme_operator.api import CONFIG_MAP, JOB, POD, WORKER_CLUSTER, Key, Object, key_of, owned_by
from trireme_operator.charts import ChartProblem, Charts
from trireme_operator.client import Client, Refused
from trireme_operator.plan import cluster as cluster_plan
from trireme_operator.plan import job as job_plan
from trireme_operator.plan.action import Plan
from trireme_operator.plan.conditions import timestamp
from trireme_operator.plan.difference import holds, must_apply
from trireme_operator.plan.pods import Trouble, not_made
from trireme_operator.store import Store

logger = logging.getLogger(__name__)

OnRefusal: TypeAlias = Callable[[Refused], Plan]
"""What to report when the API server refuses a part of a plan."""

OUTPUT_LINES = 10
OUTPUT_CHARACTERS = 4096
# Enough to be guessed never; letters and digits, because it becomes part of a URL.
_PASSWORD_BYTES = 24


class Reconciler:
    """Brings clusters and jobs to what they should be.

    Args:
        store: what was last seen.
        client: for what has to change.
        charts: the engine charts.
        clock: tells the time, with its zone.
    """

    def __init__(self, store: Store, client: Client, charts: Charts, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._client = client
        self._charts = charts
        self._clock = clock

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile one cluster or job.

        Returns:
            Seconds after which to do so again though nothing is seen to change; None for never.

        Raises:
            Refused: the API server refuses a write, which the status says; to be tried again later.
            ApiError: a call failed; to be tried again later.
        """
        item = self._store.get(key)
        if item is None or "deletionTimestamp" in item["metadata"]:
            return None
        plan, on_refusal = await (self._cluster(item) if key.kind == WORKER_CLUSTER.kind else self._job(item))
        try:
            await self._execute(item, plan)
        except Refused as refusal:
            await self._execute(item, on_refusal(refusal))
            raise
        return plan.again

    async def _cluster(self, cluster: Object) -> tuple[Plan, OnRefusal]:
        now = self._clock()
        metadata, engine = cluster["metadata"], cluster["spec"]["engine"]
        pods = self._store.pods(metadata["namespace"], metadata["name"])
        observed = cluster_plan.Observed.of(cluster, self._store.owned(cluster), pods)

        def refused(problem: Trouble) -> Plan:
            return cluster_plan.refused(cluster, problem, observed, now)

        def on_refusal(refusal: Refused) -> Plan:
            return refused(not_made(str(refusal)) if not refusal.for_good else Trouble("Invalid", str(refusal)))

        try:
            values = cluster_plan.values(cluster)
            rendered = self._charts.render(engine, metadata["name"], metadata["namespace"], values)
        except ChartProblem as problem:
            return refused(Trouble("InvalidSpec", str(problem))), on_refusal
        wanted = cluster_plan.owned(cluster, rendered)
        for item in wanted:
            found = self._store.get(key_of(item))
            if found and not owned_by(found, cluster):
                return refused(cluster_plan.taken(found)), on_refusal
        if cluster_plan.worth_a_closer_look(cluster, now):
            observed = replace(observed, trouble=await self._look_closer(cluster, observed))
        password = secrets.token_hex(_PASSWORD_BYTES)
        return cluster_plan.plan(cluster, wanted, observed, password, now), on_refusal

    async def _look_closer(self, cluster: Object, observed: cluster_plan.Observed) -> Trouble | None:
        """Ask for what no object's status tells: a ConfigMap that pods wait for, a StatefulSet that can't make pods."""
        namespace, name = cluster["metadata"]["namespace"], cluster["metadata"]["name"]
        code = cluster["spec"].get("code", {}).get("configMap")
        if code and not await self._client.exists(CONFIG_MAP, namespace, code):
            return cluster_plan.missing_code(code)
        engine = cluster_plan.adapter(cluster)
        control = observed.objects.get(Key(engine.control_kind.kind, namespace, f"{name}-{engine.control}"))
        if control is None or control.get("status", {}).get("replicas"):
            return None
        message = await self._client.failed_create(control)
        return not_made(message) if message else None

    async def _job(self, job: Object) -> tuple[Plan, OnRefusal]:
        namespace, now = job["metadata"]["namespace"], self._clock()
        driver = self._store.get(Key(JOB.kind, namespace, job_plan.driver_name(job)))
        pods = self._pods(driver)
        output = trouble = None
        if job_plan.wants_output(job, driver) and pods:
            text = await self._client.log_tail(namespace, pods[-1]["metadata"]["name"], OUTPUT_LINES)
            output = text.strip()[-OUTPUT_CHARACTERS:]
        if driver and job_plan.worth_a_closer_look(driver, pods, now):
            message = await self._client.failed_create(driver)
            trouble = not_made(message) if message else None
        observed = job_plan.Observed(
            cluster=self._store.get(Key(WORKER_CLUSTER.kind, namespace, job_plan.cluster_name(job))),
            driver=driver,
            pods=pods,
            output=output,
            trouble=trouble,
        )

        def on_refusal(refusal: Refused) -> Plan:
            return job_plan.refused(job, observed, str(refusal), refusal.for_good, now)

        return job_plan.plan(job, observed, now), on_refusal

    def _pods(self, driver: Object | None) -> list[Object]:
        """Return a driver's pods, oldest first."""
        pods = [item for item in self._store.owned(driver) if item["kind"] == POD.kind] if driver else []
        return sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    async def _execute(self, item: Object, plan: Plan) -> None:
        for wanted in plan.create:
            logger.info("creating", extra={"object": str(key_of(wanted))})
            await self._client.create(wanted)
        for wanted in plan.apply:
            if must_apply(wanted, self._store.get(key_of(wanted))):
                logger.info("applying", extra={"object": str(key_of(wanted))})
                if not holds(wanted, await self._client.apply(wanted)):
                    # Applying leaves what others added to lists, such as a variable set by hand.
                    await self._client.overwrite(wanted)
        for patch in plan.patch:
            logger.info("patching", extra={"object": f"{patch.kind.kind}/{patch.namespace}/{patch.name}"})
            await self._client.patch(patch)
        if plan.status is not None:
            await self._report(item, plan.status)
        for delete in plan.delete:
            logger.info("deleting", extra={"object": f"{delete.kind.kind}/{delete.namespace}/{delete.name}"})
            await self._client.delete(delete)

    async def _report(self, item: Object, status: Object) -> None:
        before = item.get("status", {})
        if status == before:
            return
        gone = {name: None for name in before if name not in status}
        await self._client.write_status(key_of(item), {**status, **gone})
        # Seen at once, lest the next reconcile takes the old status for the present one.
        self._store.put({**item, "status": status})
        now = timestamp(self._clock())
        for event in events.for_conditions(item, before.get("conditions", []), status["conditions"], now):
            await self._client.record(event)
