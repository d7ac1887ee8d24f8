"""Keys waiting for a reconcile."""

import asyncio
import heapq
import itertools

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
        self._ready: dict[Key, None] = {}
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._later: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._order = itertools.count()
        self._changed = asyncio.Event()

    def add(self, key: Key) -> None:
        """Have a key reconciled soon; after the reconcile under way, if there is one."""
        if key in self._active:
            self._again.add(key)
        elif self._settle and key not in self._ready:
            self.add_after(key, self._settle)
        else:
            self._make_ready(key)

    def _make_ready(self, key: Key) -> None:
        if key in self._active:
            self._again.add(key)
        else:
            self._ready[key] = None
            self._changed.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Have a key reconciled after some time, unless it was asked for earlier."""
        due = asyncio.get_running_loop().time() + seconds
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._later, (due, next(self._order), key))
            self._changed.set()

    async def get(self) -> Key:
        """Wait for a key; `done` or `failed` has to follow."""
        while True:
            left = self._promote()
            if self._ready:
                key = next(iter(self._ready))
                del self._ready[key]
                self._active.add(key)
                return key
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                continue

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

    def _promote(self) -> float | None:
        """Move what is due; return the seconds until the next that is not."""
        now = asyncio.get_running_loop().time()
        while self._later:
            due, _, key = self._later[0]
            if self._due.get(key) != due:
                heapq.heappop(self._later)
            elif due <= now:
                heapq.heappop(self._later)
                del self._due[key]
                self._make_ready(key)
            else:
                return due - now
        return None

    def __len__(self) -> int:
        return len(self._ready) + len(self._active)
