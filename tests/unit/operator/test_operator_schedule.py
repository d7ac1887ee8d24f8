"""When a schedule is due."""

from datetime import UTC, datetime

import pytest

from trireme_operator.plan.schedule import MANY, BadSchedule, Schedule


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "zone", "since", "due"),
    [
        ("*/15 * * * *", None, "2026-01-01T00:00", ["2026-01-01T00:15", "2026-01-01T00:30"]),
        ("*/15 * * * *", None, "2026-01-01T00:14:59", ["2026-01-01T00:15"]),
        ("@hourly", None, "2026-01-01T00:00", ["2026-01-01T01:00"]),
        ("@daily", "Europe/Rome", "2026-01-01T00:00", ["2026-01-01T23:00"]),
        ("@weekly", None, "2026-01-01T00:00", ["2026-01-04T00:00"]),
        ("@monthly", None, "2026-01-01T00:00", ["2026-02-01T00:00"]),
        ("@yearly", None, "2026-01-01T00:00", ["2027-01-01T00:00"]),
        # Half an hour off.
        ("@hourly", "America/St_Johns", "2026-01-01T00:00", ["2026-01-01T00:30", "2026-01-01T01:30"]),
        # Winter's clock is not summer's.
        ("0 9 1 1,7 *", "Europe/Rome", "2026-01-01T00:00", ["2026-01-01T08:00", "2026-07-01T07:00"]),
        # An hour is skipped: what falls into it does not happen that day,
        ("30 2 * * *", "Europe/Rome", "2026-03-27T12:00", ["2026-03-28T01:30", "2026-03-30T00:30"]),
        ("*/30 * * * *", "Europe/Rome", "2026-03-29T00:15", ["2026-03-29T00:30", "2026-03-29T01:00"]),
        # and one comes twice: so does what falls into it.
        ("30 2 * * *", "Europe/Rome", "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-26T01:30"]),
        ("0 * * * *", "Europe/Rome", "2026-10-24T23:30", ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"]),
        # Between the two, the second is next.
        ("30 2 * * *", "Europe/Rome", "2026-10-25T00:45", ["2026-10-25T01:30"]),
        # It may be due just as the clock is set, and asked for in the middle of a second.
        ("0 2 * * *", "America/New_York", "2026-03-07T07:00:00.870", ["2026-03-09T06:00"]),
        ("0 2 * * *", "America/New_York", "2026-10-31T06:00:00.870", ["2026-11-01T07:00", "2026-11-02T07:00"]),
        ("0 * * * *", "Europe/Rome", "2026-03-29T00:00:00.870", ["2026-03-29T01:00"]),
        ("0 * * * *", "Europe/Rome", "2026-10-25T00:00:00.870", ["2026-10-25T01:00"]),
        # Either of the days, unless one is any: a step is not any.
        ("0 0 13 * FRI", None, "2026-01-08T12:00", ["2026-01-09T00:00", "2026-01-13T00:00"]),
        ("0 0 * * FRI", None, "2026-01-08T12:00", ["2026-01-09T00:00", "2026-01-16T00:00"]),
        ("0 0 ? * 5", None, "2026-01-08T12:00", ["2026-01-09T00:00", "2026-01-16T00:00"]),
        ("0 0 */10 * 1", None, "2026-01-01T12:00", ["2026-01-05T00:00", "2026-01-11T00:00", "2026-01-12T00:00"]),
        ("0 0 10 * */6", None, "2026-01-08T12:00", ["2026-01-10T00:00", "2026-01-11T00:00"]),
        ("0 0 * * 5/2", None, "2026-01-08T12:00", ["2026-01-09T00:00", "2026-01-16T00:00"]),
        ("0 0 29 2 *", None, "2026-01-01T00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("0 12 * jan-mar mon,wed", None, "2026-01-01T00:00", ["2026-01-05T12:00", "2026-01-07T12:00"]),
    ],
)
def test_when_it_is_due(expression: str, zone: str | None, since: str, due: list[str]) -> None:
    schedule, moment = Schedule(expression, zone), at(since)
    for expected in due:
        found = schedule.after(moment)
        assert found == at(expected)
        moment = found


@pytest.mark.parametrize(
    "expression",
    [
        *("", "x", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "*/0 * * * *"),
        *("5-1 * * * *", "@every 5m", "@reboot", "0 0 L * *", "0 0 15W * *", "0 0 * * 5L", "0 0 * * MON#1"),
        *("0 0 31 2 *", "0 0 30 2 ?", "0 0 31 4,6 *", "١ * * * *"),
    ],
)
def test_a_schedule_that_means_nothing(expression: str) -> None:
    with pytest.raises(BadSchedule, match=r"spec.schedule: .*give five fields") as refused:
        Schedule(expression)
    assert refused.value.reason == "InvalidSchedule"


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "Europe", "/etc/localtime", "a\0b", ""])
def test_a_time_zone_that_is_none(zone: str) -> None:
    with pytest.raises(BadSchedule, match=r"spec\.timeZone: ") as refused:
        Schedule("@daily", zone)
    assert refused.value.reason == "UnknownTimeZone"


@pytest.mark.parametrize(
    ("expression", "since", "now", "latest", "missed"),
    [
        ("0 * * * *", "2026-01-01T00:00", "2026-01-01T00:59:59", None, 0),
        ("0 * * * *", "2026-01-01T00:00", "2026-01-01T01:00", "2026-01-01T01:00", 1),
        ("0 * * * *", "2026-01-01T00:00", "2026-01-01T03:30", "2026-01-01T03:00", 3),
        ("0 * * * *", "2026-01-01T00:30", "2026-01-05T04:30", "2026-01-05T04:00", MANY),
        ("0 * * * *", "2026-01-01T00:30", "2026-01-05T05:00", "2026-01-05T05:00", MANY + 1),
        ("* * * * *", "2016-01-01T00:00", "2026-01-01T00:00:30", "2026-01-01T00:00", MANY + 1),
        # The last one is long ago, beyond any multiple of the time between the first two.
        ("0 9-17 * * 1-5", "2016-01-01T00:00", "2026-01-04T00:00", "2026-01-02T17:00", MANY + 1),
        # There are more than many beyond that time, too.
        ("*/5 8-17 * * 1-5", "2026-01-07T12:00", "2026-01-12T07:00", "2026-01-09T17:55", MANY + 1),
        ("* 0-11 * * *", "2025-12-01T00:00", "2026-01-01T23:59:00.5", "2026-01-01T11:59", MANY + 1),
        ("0-9 0 1 1 *", "2000-01-01T00:00", "2026-12-01T00:00", "2026-01-01T00:09", MANY + 1),
    ],
)
def test_the_last_one_that_is_due(expression: str, since: str, now: str, latest: str | None, missed: int) -> None:
    found = Schedule(expression).latest(at(since), at(now))
    assert found == (None if latest is None else at(latest), missed)
