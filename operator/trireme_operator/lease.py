"""Which of several operators reconciles: the holder of a Lease, as in client-go's leader election."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from trireme_operator.api import LEASE, Object
from trireme_operator.client import FAILURES, ClusterClient

logger = logging.getLogger(__name__)

NAME = "trireme-operator"
# client-go's defaults: 15 s of validity, renewed within 10, tried every 2. Renewed less often here: it costs a write.
_VALID_SECONDS = 15
_RENEW_SECONDS = 5.0
_TRY_SECONDS = 2.0
# Before its end the lease counts as lost here, so that two never lead.
_MARGIN_SECONDS = 2.5


def claim(lease: Object | None, identity: str, now: datetime, unchanged_since: datetime) -> Object | None:
    """Return the Lease to write in order to hold or renew it; None while another one holds it.

    Args:
        lease: as it is; None if there is none.
        identity: of this operator.
        now: the time here.
        unchanged_since: when it was first seen here as it is; what it says itself is by another's clock.
    """
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = dict(lease["spec"]) if lease else {}
    held_by_other = bool(spec.get("holderIdentity")) and spec["holderIdentity"] != identity
    if lease and held_by_other:
        if now - unchanged_since < timedelta(seconds=spec.get("leaseDurationSeconds", _VALID_SECONDS)):
            return None
        spec["leaseTransitions"] = spec.get("leaseTransitions", 0) + 1
    if held_by_other or not spec.get("holderIdentity"):
        spec["acquireTime"] = stamp
    spec.update(holderIdentity=identity, renewTime=stamp, leaseDurationSeconds=_VALID_SECONDS)
    metadata = lease["metadata"] if lease else {}
    return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}


class Leadership:
    """Holds the Lease, or waits for it.

    Args:
        client: to read and write it with.
        namespace: where it is.
        identity: of this operator, unique among its replicas.
        clock: tells the time, with its zone.
    """

    def __init__(self, client: ClusterClient, namespace: str, identity: str, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._seen: tuple[str, datetime] | None = None

    async def acquire(self) -> None:
        """Wait until this operator holds the Lease."""
        while not await self._try():
            await asyncio.sleep(_TRY_SECONDS)
        logger.info("this operator leads", extra={"identity": self._identity})

    async def keep(self) -> None:
        """Renew the Lease; return when it is lost."""
        renewed, pause = self._clock(), _RENEW_SECONDS
        while (left := self._left(renewed)) > 0:
            await asyncio.sleep(min(pause, left))
            # Counted from before the call: what is written is the time then.
            asked, left = self._clock(), self._left(renewed)
            pause = _TRY_SECONDS
            if left > 0:
                try:
                    if await asyncio.wait_for(self._try(), min(left, _MARGIN_SECONDS)):
                        renewed, pause = asked, _RENEW_SECONDS
                except TimeoutError:
                    logger.warning("the lease can't be renewed in time")
        logger.error("the lease is lost", extra={"identity": self._identity})

    def _left(self, renewed: datetime) -> float:
        """Return the seconds that the lease still counts as held here."""
        return _VALID_SECONDS - _MARGIN_SECONDS - (self._clock() - renewed).total_seconds()

    async def release(self) -> None:
        """Give the Lease up, so that the next one need not wait for its end."""
        lease = await self._client.get(LEASE, self._namespace, NAME)
        if lease and lease["spec"].get("holderIdentity") == self._identity:
            lease["spec"].update(holderIdentity="", leaseDurationSeconds=1)
            await self._client.put_lease(lease)

    async def _try(self) -> bool:
        try:
            lease = await self._client.get(LEASE, self._namespace, NAME)
            now = self._clock()
            version = lease["metadata"]["resourceVersion"] if lease else ""
            if self._seen is None or self._seen[0] != version:
                self._seen = (version, now)
            wanted = claim(lease, self._identity, now, self._seen[1])
            if wanted is None:
                return False
            wanted["metadata"] = {**wanted["metadata"], "name": NAME, "namespace": self._namespace}
            return await self._client.put_lease(wanted)
        except FAILURES as error:
            logger.warning("the lease can't be had now", extra={"error": str(error)})
            return False
