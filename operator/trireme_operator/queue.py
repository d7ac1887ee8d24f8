"""Keys waiting for a reconcile."""

import asyncio

from trireme_operator.api import Key

_FIRST_BACK_OFF = 0.1
_LONGEST_BACK_OFF = 60.0


class Queue:
    """Each key at most once, never two reconciles of one key at a time; failures back off from 0.1 to 60 s.

    Seconds are those of the running loop's clock.

    Args:
        settle: seconds that a key waits for more to happen: one reconcile sees what a burst of events has changed.
    """

    def __init__(self, settle: float = 0.0) -> None:
        self._settle = settle
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._later: dict[Key, asyncio.TimerHandle] = {}

    def add(self, key: Key) -> None:
        """Have a key reconciled soon; after the reconcile under way, if there is one."""
        if key in self._active:
            self._again.add(key)
        elif self._settle and key not in self._waiting:
            self.add_after(key, self._settle)
        else:
            self._make_ready(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Have a key reconciled after some time, unless it was asked for earlier."""
        loop = asyncio.get_running_loop()
        due, before = loop.time() + seconds, self._later.get(key)
        if before and before.when() <= due:
            return
        if before:
            before.cancel()
        self._later[key] = loop.call_at(due, self._come_due, key)

    def _come_due(self, key: Key) -> None:
        del self._later[key]
        self._make_ready(key)

    def _make_ready(self, key: Key) -> None:
        if key in self._active:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    async def get(self) -> Key:
        """Wait for a key; `done` or `failed` has to follow."""
        key = await self._ready.get()
        self._waiting.discard(key)
        self._active.add(key)
        return key

    def done(self, key: Key) -> None:
        """Note that a key was reconciled."""
        self._failures.pop(key, None)
        self._end(key)

    def failed(self, key: Key) -> float:
        """Note that a reconcile failed, and have it tried again; return the seconds until then."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        seconds = float(min(_LONGEST_BACK_OFF, _FIRST_BACK_OFF * 2 ** min(failures, 16)))
        self._end(key)
        self.add_after(key, seconds)
        return seconds

    def _end(self, key: Key) -> None:
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._active)
