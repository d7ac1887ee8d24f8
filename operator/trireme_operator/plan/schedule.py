"""Schedules in the words of batch/v1's CronJob: when one is due."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MANY = 100
"""More missed starts than this are told of, as in batch/v1: a clock that is wrong is likelier than so long a pause."""
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = 5
# No zone changes its clocks twice in so short a time.
_STEP = timedelta(days=7)


class BadSchedule(Exception):
    """A schedule, or its time zone, that means nothing; the message names the field and the fix."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Schedule:
    """Every instant at which the clock on the wall shows what an expression says.

    So it is in batch/v1: what falls into the hour that a change of the clocks skips does not happen, and what falls
    into the one that comes twice happens twice.

    Args:
        expression: five fields of cron, or a macro such as @hourly.
        zone: the time zone's name in the IANA database; None for UTC.

    Raises:
        BadSchedule: either is wrong.
    """

    def __init__(self, expression: str, zone: str | None = None) -> None:
        self._expression = _standard(expression)
        self._zone = _zone(zone)
        # What is never due can't be told from its form alone.
        if self.after(datetime(2000, 1, 1, tzinfo=UTC)) is None:
            raise _bad(expression, "it is never due")

    def after(self, moment: datetime) -> datetime | None:
        """Return the first time after a moment; None if there is none in 50 years."""
        # Schedules know no parts of a second.
        start = moment.astimezone(UTC).replace(microsecond=0)
        offset = self._offset(start)
        wall = start + offset
        while True:
            found = next(CronSim(self._expression, wall.replace(tzinfo=None)), None)
            if found is None:
                return None
            due = found.replace(tzinfo=UTC) - offset
            change = self._change(start, due)
            if change is None:
                return due
            # The clock is set on the way there: look again from then on, with the clock as it is set.
            start, offset = change, self._offset(change)
            wall = change + offset - timedelta(seconds=1)

    def latest(self, since: datetime, now: datetime) -> tuple[datetime | None, int]:
        """Return the last time after `since` and not after `now`, and how many there are, counted to `MANY` + 1."""
        missed = list(islice(self._between(since, now), MANY + 1))
        if len(missed) <= MANY:
            return (missed[-1] if missed else None), len(missed)
        back = missed[1] - missed[0]
        while not self._is_due(now - back, now):
            back *= 2
        # The last one is after `low`, and not after `high`.
        low, high = now - back, now
        while high - low > timedelta(seconds=1):
            middle = low + (high - low) / 2
            low, high = (middle, high) if self._is_due(middle, now) else (low, middle)
        return self.after(low), len(missed)

    def _is_due(self, since: datetime, now: datetime) -> bool:
        due = self.after(since)
        return due is not None and due <= now

    def _between(self, since: datetime, now: datetime) -> Iterator[datetime]:
        due = self.after(since)
        while due is not None and due <= now:
            yield due
            due = self.after(due)

    def _offset(self, moment: datetime) -> timedelta:
        found = moment.astimezone(self._zone).utcoffset()
        assert found is not None
        return found

    def _change(self, start: datetime, end: datetime) -> datetime | None:
        """Return the first time after start, and not after end, since which the clock is set another way."""
        offset, low = self._offset(start), start
        while low < end:
            high = min(low + _STEP, end)
            if self._offset(high) != offset:
                while high - low > timedelta(seconds=1):
                    middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
                    low, high = (low, middle) if self._offset(middle) != offset else (middle, high)
                return high
            low = high
        return None


def _bad(expression: str, why: str) -> BadSchedule:
    message = f"spec.schedule: {expression!r}: {why}: give five fields (minute, hour, day, month, weekday), or @hourly"
    return BadSchedule("InvalidSchedule", message)


def _standard(expression: str) -> str:
    """Return an expression of batch/v1's in cronsim's words, where they differ."""
    text = _MACROS.get(expression.strip().lower(), expression).upper()
    fields = text.split()
    if text.startswith("@") or len(fields) != _FIELDS:
        raise _bad(expression, "it has not five fields" if not text.startswith("@") else "there is no such macro")
    if re.search(r"[L#W]", fields[2]) or re.search(r"[L#]", fields[4]):
        raise _bad(expression, "L, W and # are not known here")
    fields = ["*" if field == "?" else field for field in fields]
    # To cronsim, as to Debian's cron, `*/2` is a star: both days would have to match then, not either.
    for place, whole, last in ((2, "1-31", "31"), (4, "0-6", "6")):
        terms = [re.sub(r"^\*/", f"{whole}/", term) for term in fields[place].split(",")]
        fields[place] = ",".join(re.sub(r"^(\w+)/", rf"\1-{last}/", term) for term in terms)
    found = " ".join(fields)
    try:
        CronSim(found, datetime(2000, 1, 1))
    except CronSimError as error:
        raise _bad(expression, str(error)[:1].lower() + str(error)[1:]) from error
    return found


def _zone(name: str | None) -> tzinfo:
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, ValueError) as error:
        message = f"spec.timeZone: {name!r} is unknown: give a name of the IANA database, such as Europe/Rome"
        raise BadSchedule("UnknownTimeZone", message) from error
