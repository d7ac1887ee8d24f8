"""One key: observe, plan, apply, report."""

import logging
import secrets
from collections.abc import Callable
from datetime import datetime

from trireme_operator import events
from trireme_operator.api import JOB, POD, WORKER_CLUSTER, Key, Object, key_of
from trireme_operator.charts import ChartProblem, Charts
from trireme_operator.client import Client
from trireme_operator.plan import cluster as cluster_plan
from trireme_operator.plan import job as job_plan
from trireme_operator.plan.action import Plan
from trireme_operator.plan.conditions import changed, timestamp
from trireme_operator.plan.difference import must_apply
from trireme_operator.store import Store

logger = logging.getLogger(__name__)

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
            ApiError: the API server refused a write; to be tried again later.
        """
        item = self._store.get(key)
        if item is None or "deletionTimestamp" in item["metadata"]:
            return None
        plan = self._cluster(item) if key.kind == WORKER_CLUSTER.kind else await self._job(item)
        await self._execute(item, plan)
        return plan.again

    def _cluster(self, cluster: Object) -> Plan:
        now = timestamp(self._clock())
        observed = cluster_plan.Observed.of(cluster, self._store.owned(cluster))
        metadata, engine = cluster["metadata"], cluster["spec"]["engine"]
        try:
            values = cluster_plan.values(cluster)
            rendered = self._charts.render(engine, metadata["name"], metadata["namespace"], values)
        except ChartProblem as problem:
            return cluster_plan.refused(cluster, str(problem), observed, now)
        return cluster_plan.plan(cluster, rendered, observed, secrets.token_hex(_PASSWORD_BYTES), now)

    async def _job(self, job: Object) -> Plan:
        namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
        driver = self._store.get(Key(JOB.kind, namespace, job_plan.driver_name(job)))
        pods = self._pods(namespace, name)
        output = None
        if job_plan.wants_output(job, driver) and pods:
            text = await self._client.log_tail(namespace, pods[-1]["metadata"]["name"], OUTPUT_LINES)
            output = text.strip()[-OUTPUT_CHARACTERS:]
        observed = job_plan.Observed(
            cluster=self._store.get(Key(WORKER_CLUSTER.kind, namespace, job_plan.cluster_name(job))),
            driver=driver,
            pods=pods,
            output=output,
        )
        now = self._clock()
        return job_plan.plan(job, observed, now, timestamp(now))

    def _pods(self, namespace: str, job: str) -> list[Object]:
        """Return a job's driver pods, oldest first."""
        driver = self._store.get(Key(JOB.kind, namespace, f"{job}-driver"))
        pods = [item for item in self._store.owned(driver) if item["kind"] == POD.kind] if driver else []
        return sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    async def _execute(self, item: Object, plan: Plan) -> None:
        for wanted in plan.create:
            logger.info("creating", extra={"object": str(key_of(wanted))})
            await self._client.create(wanted)
        for wanted in plan.apply:
            if must_apply(wanted, self._store.get(key_of(wanted))):
                logger.info("applying", extra={"object": str(key_of(wanted))})
                await self._client.apply(wanted)
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
        for condition in changed(before.get("conditions", []), status["conditions"]):
            await self._client.record(events.for_condition(item, condition, timestamp(self._clock())))
