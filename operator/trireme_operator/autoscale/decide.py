"""How many workers there should be: demand, by the rules of autoscaling/v2. The time is given."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from trireme_operator.api import Object
from trireme_operator.engines.demand import Demand

# The longest that autoscaling/v2 lets anyone ask for.
_LONGEST_WINDOW = 3600.0
_LONGEST_PERIOD = 1800.0

_TOLERANCE = 0.1
# Some times what a worker takes to be Ready: 6 s at the 95th percentile (bench/results/reaction.md).
_DOWN_WINDOW = 20.0


@dataclass(frozen=True)
class Policy:
    """How far a size may move in a time.

    Args:
        type: Pods or Percent.
        value: as many workers, or percent of those at the period's start; at least 1.
        period: seconds.
    """

    type: str
    value: int
    period: float


@dataclass(frozen=True)
class Direction:
    """How a size may move one way.

    Args:
        window: seconds in which every recommendation has to agree.
        select: which policy counts: Max, the one that allows most; Min; or Disabled, for no move at all.
        policies: none for no limit.
        tolerance: what part of the present size a difference has to exceed.
    """

    window: float
    select: str
    policies: tuple[Policy, ...]
    tolerance: float


@dataclass(frozen=True)
class Rules:
    """A cluster's autoscaling, with the defaults filled in.

    Args:
        least: minReplicas.
        most: maxReplicas.
        up: the rules of scaling up.
        down: the rules of scaling down.
        idle: seconds without work after which the cluster sleeps, at 0; None for never.
    """

    least: int
    most: int
    up: Direction
    down: Direction
    idle: float | None = None


@dataclass(frozen=True)
class History:
    """What later decisions have to know of earlier ones; in order of time, seconds of a monotonic clock.

    Args:
        recommendations: times and sizes asked for; only those that can still be a window's highest or lowest.
        changes: times and differences in size; those of one second are one.
        idle_since: since when no look has found work or results still wanted; None if the last did, or may have.
    """

    recommendations: tuple[tuple[float, int], ...] = ()
    changes: tuple[tuple[float, int], ...] = ()
    idle_since: float | None = None


@dataclass(frozen=True)
class Decision:
    """A size, and why.

    Args:
        replicas: as many workers there should be.
        reason: what counted in the end, as a condition's reason.
        message: the demand and all that limited it, for people.
        history: for the next decision.
        again: seconds until what is held back could happen; None if time alone changes nothing.
    """

    replicas: int
    reason: str
    message: str
    history: History
    again: float | None


def rules(autoscaling: Object) -> Rules:
    """Read a WorkerCluster's `spec.autoscaling`.

    The defaults differ from the HorizontalPodAutoscaler's: waiting work is known, where a load is guessed from.
    """
    behavior = autoscaling.get("behavior", {})
    idle = autoscaling.get("idleTimeoutSeconds")
    return Rules(
        least=autoscaling.get("minReplicas", 1),
        most=autoscaling["maxReplicas"],
        up=_direction(behavior.get("scaleUp", {}), 0.0),
        down=_direction(behavior.get("scaleDown", {}), _DOWN_WINDOW),
        idle=None if idle is None else float(idle),
    )


def _direction(found: Object, window: float) -> Direction:
    return Direction(
        window=float(found.get("stabilizationWindowSeconds", window)),
        select=found.get("selectPolicy", "Max"),
        policies=tuple(
            Policy(policy["type"], policy["value"], float(policy["periodSeconds"]))
            for policy in found.get("policies", [])
        ),
        tolerance=float(found.get("tolerance", _TOLERANCE)),
    )


def begin(current: int, now: float) -> History:
    """Return the history of an operator that has just started: the present size is as good as recommended.

    So it holds for a whole window, whatever it finds.
    """
    return History(recommendations=((now, current),))


def decide(rules: Rules, current: int, demand: Demand | None, history: History, now: float) -> Decision:
    """Decide on a size.

    Args:
        rules: the cluster's.
        current: the size that it is set to.
        demand: None if unknown: nothing is lowered then, and nothing woken.
        history: the last decision's, or that of `begin`.
        now: seconds of a monotonic clock.
    """
    history = _idle(_as_of(history, current, now), demand, now)
    if demand is None:
        replicas = 0 if _may_sleep(rules) and not current else max(current, rules.least)
        message = f"demand unknown: {_count(replicas, 'worker')}" + (" for minReplicas" if replicas > current else "")
        return Decision(replicas, "DemandUnknown", message, _changed(history, replicas - current, now), None)

    due = _sleep_due(rules, history)
    # At 0 it sleeps already, whoever set that, and however short a time this operator has known of it.
    asleep = due is not None and (due <= now or not current)
    if asleep:
        why = f"as idle for {rules.idle:g} s" if due is not None and due <= now else "until there is work"
        want, limits = 0, [("IdleTimeout", f"0 {why}")]
        # The window has nothing left to guard against; a limit of the pace is about what leaves, whatever for.
        rules = replace(rules, least=0, down=replace(rules.down, window=0.0))
    else:
        want, limits = _wanted(rules, current, demand)
    sign, way, direction = (1, "Up", rules.up) if want > current else (-1, "Down", rules.down)
    # From here on a size is how far it is ahead, in the direction wanted.
    step = _agreed(direction, sign, current, want, history.recommendations, now)
    stable = _within(rules, current + sign * step)
    if stable != want:
        limits.append((f"Scale{way}Stabilized", f"{stable} for the stabilization window"))
    step = _paced(direction, sign, current, sign * (stable - current), history.changes, now)
    replicas = _within(rules, current + sign * step)
    if replicas != stable:
        why = f"as scaling {way.lower()} is disabled" if direction.select == "Disabled" else "for the rate policy"
        limits.append((f"Scale{way}Limit", f"{replicas} {why}"))

    recommendations = _extremes((*history.recommendations, (now, want)))
    history = _changed(replace(history, recommendations=recommendations), replicas - current, now)
    again = None
    if replicas != stable:
        again = _next_pace(direction, sign, history.changes, now)
    elif stable != want:
        opposed = [time for time, size in recommendations if sign * size <= sign * replicas]
        again = max(opposed) + direction.window - now
    if due is not None and not asleep and replicas:
        again = due - now if again is None else min(again, due - now)
    return Decision(
        replicas=replicas,
        reason=limits[-1][0] if limits else "DesiredWithinRange",
        message=", ".join((_asked(demand), *(text for _, text in limits))),
        history=history,
        again=again,
    )


def _wanted(rules: Rules, current: int, demand: Demand) -> tuple[int, list[tuple[str, str]]]:
    """Return the size to recommend, and what it was limited by, as reasons and words."""
    limits = []
    want = _needed(demand)
    if demand.least > want:
        want = demand.least
        limits.append(("WorkInFlight", f"{want} for work in flight"))
    if want > rules.most:
        limits.append(("TooManyReplicas", f"{rules.most} for maxReplicas"))
    elif want < rules.least:
        limits.append(("TooFewReplicas", f"{rules.least} for minReplicas"))
    off = abs(want - current)
    want = _within(rules, want)
    tolerance = rules.up.tolerance if want > current else rules.down.tolerance
    # Divided last, so that it is exact at the edge: 11 / 10 - 1 is more than 0.1 in floats.
    if current and current == _within(rules, current) and want not in (0, current) and off / current <= tolerance:
        want = current
        limits.append(("WithinTolerance", f"{want} within tolerance"))
    return want, limits


def _may_sleep(rules: Rules) -> bool:
    return rules.idle is not None and rules.down.select != "Disabled"


def _sleep_due(rules: Rules, history: History) -> float | None:
    """Return when the cluster will have been idle for long enough to sleep; None if it is not, or may not."""
    if rules.idle is None or history.idle_since is None or not _may_sleep(rules):
        return None
    return history.idle_since + rules.idle


def _needed(demand: Demand) -> int:
    return max(demand.workers, 0 if demand.is_nothing else 1)


def _within(rules: Rules, size: int) -> int:
    return min(max(size, rules.least), rules.most)


def _agreed(
    direction: Direction, sign: int, current: int, want: int, recommendations: Iterable[tuple[float, int]], now: float
) -> int:
    """Return how far all recommendations in the window go along."""
    sizes = [want, *(size for time, size in recommendations if time + direction.window > now)]
    return max(0, min(sign * (size - current) for size in sizes))


def _paced(
    direction: Direction, sign: int, current: int, step: int, changes: Iterable[tuple[float, int]], now: float
) -> int:
    """Return how much of a step the rate policies allow now."""
    if direction.select == "Disabled":
        return 0
    if not direction.policies:
        return step
    allowed = []
    for policy in direction.policies:
        start = current - sum(change for time, change in changes if time + policy.period > now)
        if policy.type == "Pods":
            reach = start + sign * policy.value
        # In whole numbers: 100 * (1 + 10 / 100) is more than 110 in floats.
        elif sign > 0:
            reach = max(start + 1, -(-start * (100 + policy.value) // 100))
        else:
            reach = start * (100 - policy.value) // 100
        allowed.append(sign * (reach - current))
    return max(0, min(step, min(allowed) if direction.select == "Min" else max(allowed)))


def _next_pace(direction: Direction, sign: int, changes: Iterable[tuple[float, int]], now: float) -> float | None:
    """Return seconds until a policy forgets a change this way."""
    if direction.select == "Disabled":
        return None
    ends = [time + policy.period for time, change in changes for policy in direction.policies if sign * change > 0]
    return min((end - now for end in ends if end > now), default=None)


def _as_of(history: History, current: int, now: float) -> History:
    """Return what of a history still counts."""
    recommendations = [(min(time, now), size) for time, size in history.recommendations if time > now - _LONGEST_WINDOW]
    idle_since = history.idle_since
    # The clock was set back: there is no telling how old anything is, so this is a start.
    if any(time > now for time, _ in (*history.recommendations, *history.changes)):
        recommendations.append((now, current))
        idle_since = None
    changes = ((min(time, now), change) for time, change in history.changes if time > now - _LONGEST_PERIOD)
    return History(_extremes(recommendations), _by_second(changes), idle_since)


def _idle(history: History, demand: Demand | None, now: float) -> History:
    """Return a history that knows since when there has been no work; of an unknown demand, some may be.

    Results that somebody still wants count as work: given up, they would be asked for again, and computed anew.
    """
    if demand is None or not demand.is_nothing:
        return replace(history, idle_since=None)
    return replace(history, idle_since=now) if history.idle_since is None else history


def _changed(history: History, change: int, now: float) -> History:
    """Return a history with a change in it, if it is one."""
    return replace(history, changes=_by_second((*history.changes, (now, change))))


def _extremes(recommendations: Iterable[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    """Leave out what is never the highest or lowest of all since some time."""
    kept: list[tuple[float, int]] = []
    high, low = -math.inf, math.inf
    for time, size in reversed(list(recommendations)):
        if size > high or size < low:
            kept.append((time, size))
        high, low = max(high, size), min(low, size)
    return tuple(reversed(kept))


def _by_second(changes: Iterable[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    """Add up the changes within each second, so that there are never many."""
    sums: dict[int, tuple[float, int]] = {}
    for time, change in changes:
        second = math.floor(time)
        sums[second] = (time, sums[second][1] + change if second in sums else change)
    return tuple((time, change) for time, change in sums.values() if change)


def _asked(demand: Demand) -> str:
    """Say what work there is, and how many workers it can use."""
    return (
        f"{demand.waiting} {demand.unit} waiting and {demand.running} running"
        f" for {_count(demand.slots, 'slot')} a worker: {_count(_needed(demand), 'worker')}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
