"""Start-up: settings, watches, leader lease, workers."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import time
import uuid
from datetime import UTC, datetime

import uvloop
from prometheus_client import REGISTRY

from trireme_operator import logs, metrics, settings
from trireme_operator.api import WORKER_CLUSTER, WORKER_CRON_JOB, WORKER_GROUP, WORKER_JOB, Key
from trireme_operator.autoscale.loop import Autoscaler
from trireme_operator.autoscale.sources import Sources
from trireme_operator.charts import Charts, HelmCommand, InProcess
from trireme_operator.client import FAILURES, ClusterClient, Refused
from trireme_operator.departures import Departures
from trireme_operator.inventory import Inventory
from trireme_operator.lease import Leadership
from trireme_operator.queue import Queue
from trireme_operator.reconcile import Reconciler
from trireme_operator.settings import Settings
from trireme_operator.store import Store
from trireme_operator.watch import Watches

logger = logging.getLogger("trireme_operator")

# A cluster's start is some hundred events, most of them within this time of another.
_SETTLE_SECONDS = 0.1
# What goes wrong in code that meets what it does not expect.
_MISTAKES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_RECONCILED = {WORKER_CLUSTER.kind, WORKER_GROUP.kind, WORKER_JOB.kind, WORKER_CRON_JOB.kind}


def _now() -> datetime:
    return datetime.now(UTC)


async def _work(queue: Queue, reconciler: Reconciler) -> None:
    """Take keys from the queue for good; what goes wrong with one is tried again and holds up no other."""
    while True:
        key = await queue.get()
        start = time.monotonic()
        logs.CONTEXT.set({"reconcile": uuid.uuid4().hex[:8], "reconciled": str(key)})
        try:
            again = await reconciler.reconcile(key)
        except Refused as refusal:
            seconds = queue.failed(key)
            metrics.RECONCILES.labels(key.kind, "refused").inc()
            logger.warning("refused", extra={"retry_seconds": seconds, "error": str(refusal)})
        except (*FAILURES, *_MISTAKES) as error:
            seconds = queue.failed(key)
            metrics.RECONCILES.labels(key.kind, "error").inc()
            logger.exception("reconcile failed", extra={"retry_seconds": seconds, "error": str(error)})
        else:
            queue.done(key)
            if again is not None:
                queue.add_after(key, again)
            metrics.RECONCILES.labels(key.kind, "success").inc()
        metrics.RECONCILE_SECONDS.labels(key.kind).observe(time.monotonic() - start)


async def run(options: Settings, client: ClusterClient) -> None:
    """Run the operator until it is told to end, or loses its lease."""
    store, queue = Store(), Queue(_SETTLE_SECONDS)

    def ask(key: Key) -> None:
        if key.kind in _RECONCILED:
            queue.add(key)

    departures = Departures(store, client, _now)
    watches = Watches(client, store, ask, departures.gone)
    leads = asyncio.Event()
    metrics.QUEUE_LENGTH.set_function(lambda: len(queue))
    inventory = Inventory(store, leads.is_set)
    REGISTRY.register(inventory)
    loop = asyncio.get_running_loop()
    server = metrics.serve(options.port, watches.is_synced, lambda: metrics.turns(loop))
    renderer = HelmCommand(options.helm) if options.helm else InProcess()
    sources = Sources(store)
    autoscaler = Autoscaler(store, client, sources, ask, _now)
    charts = Charts(options.charts, renderer)
    reconciler = Reconciler(
        store, client, charts, _now, options.registry, autoscaler.said, options.metrics_from, autoscaler.choose
    )
    leadership = Leadership(client, options.own_namespace, options.identity, _now)
    told_to_end = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, told_to_end.set)

    async def lead() -> None:
        if options.leader_election:
            await leadership.acquire()
        await watches.synced()
        metrics.LEADER.set(1)
        leads.set()
        workers = [asyncio.create_task(_work(queue, reconciler)) for _ in range(options.workers)]
        workers += [asyncio.create_task(autoscaler.run()), asyncio.create_task(departures.run())]
        kept = asyncio.create_task(leadership.keep() if options.leader_election else asyncio.Event().wait())
        # The first to end, by an error or the lease's loss, ends them all: two must not lead.
        try:
            ended, _ = await asyncio.wait([*workers, kept], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*workers, kept):
                task.cancel()
        for task in ended:
            task.result()

    tasks = [asyncio.create_task(watches.run()), asyncio.create_task(lead()), asyncio.create_task(told_to_end.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        # The registry is the process's, in which another operator may run after this one.
        REGISTRY.unregister(inventory)
        server.shutdown()
        server.server_close()
    if options.leader_election:
        with contextlib.suppress(*FAILURES):
            await leadership.release()
    await sources.close()
    await client.close()
    for task in done:
        task.result()
    if not told_to_end.is_set():
        raise SystemExit("ended without being told to")


def main() -> None:
    """Run with the settings of the command line."""
    options = settings.parse(sys.argv[1:])
    logs.set_up(options.log_level)
    # What start-up made stays for good: looking through it for garbage took a sixth of the CPU time.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    uvloop.run(run(options, ClusterClient(options.namespace)))


if __name__ == "__main__":
    main()
