"""What size a demand leads to: each rule at its boundary, then all of them over random histories."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trireme_operator.autoscale.decide import Decision, Direction, History, Policy, Rules, begin, decide, rules
from trireme_operator.engines.demand import Demand

FREE = Direction(window=0, select="Max", policies=(), tolerance=0)
NO = replace(FREE, select="Disabled")
NOW = 10_000.0


def of(up: Direction = FREE, down: Direction = FREE, least: int = 0, most: int = 100) -> Rules:
    return Rules(least, most, up, down)


def work(workers: int, least: int = 0) -> Demand:
    """Return the demand of as many tasks as workers, all of them waiting."""
    return Demand(workers, waiting=workers, running=0, slots=1, least=least, unit="tasks")


def paced(*policies: tuple[str, int, float], select: str = "Max") -> Direction:
    return replace(FREE, select=select, policies=tuple(Policy(*policy) for policy in policies))


def size(by: Rules, current: int, demand: Demand | None, history: History | None = None) -> int:
    return decide(by, current, demand, history or History(), NOW).replicas


# The spec block


def test_defaults() -> None:
    assert rules({"maxReplicas": 8}) == Rules(
        least=1,
        most=8,
        up=Direction(window=0, select="Max", policies=(), tolerance=0.1),
        down=Direction(window=20, select="Max", policies=(), tolerance=0.1),
    )
    assert rules({"maxReplicas": 8, "behavior": {"scaleUp": {}, "scaleDown": {}}}) == rules({"maxReplicas": 8})


def test_all_that_can_be_said() -> None:
    assert rules({"maxReplicas": 8, "idleTimeoutSeconds": 1800}) == replace(rules({"maxReplicas": 8}), idle=1800)
    policies = [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 50, "periodSeconds": 60},
    ]
    said = rules(
        {
            "minReplicas": 0,
            "maxReplicas": 9,
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 7, "policies": policies, "selectPolicy": "Min"},
                "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [], "selectPolicy": "Disabled"},
            },
        }
    )
    assert said == Rules(
        least=0,
        most=9,
        up=Direction(7, "Min", (Policy("Pods", 4, 15), Policy("Percent", 50, 60)), 0.1),
        down=Direction(0, "Disabled", (), 0.1),
    )


def test_tolerance_is_about_what_is_asked_for_not_about_what_bounds_leave() -> None:
    """Else a thousand tasks would wait for 19 of 20 workers, and nothing at all for 11 of 10."""
    by = of(least=10, most=20, up=replace(FREE, tolerance=0.1), down=replace(FREE, tolerance=0.1))
    assert decide(by, 19, work(1000), History(), NOW).replicas == 20
    assert decide(by, 11, work(0), History(), NOW).replicas == 10


@pytest.mark.parametrize("tolerance", [0, 0.2, 1, 0.00001])
def test_a_tolerance_is_of_one_direction(tolerance: float) -> None:
    for name in ("scaleUp", "scaleDown"):
        said = rules({"maxReplicas": 8, "behavior": {name: {"tolerance": tolerance}}})
        assert (said.up if name == "scaleUp" else said.down).tolerance == tolerance
        assert (said.down if name == "scaleUp" else said.up).tolerance == 0.1


# Each rule


@pytest.mark.parametrize(
    ("least", "most", "current", "becomes"),
    [(0, 9, 0, 0), (0, 9, 4, 4), (1, 9, 0, 1), (1, 9, 1, 1), (5, 9, 4, 5), (0, 3, 3, 3), (0, 3, 4, 4)],
)
def test_unknown_lowers_nothing_and_raises_to_the_least(least: int, most: int, current: int, becomes: int) -> None:
    by = of(up=NO, least=least, most=most)
    decision = decide(by, current, None, History(), NOW)
    assert (decision.replicas, decision.reason, decision.again) == (becomes, "DemandUnknown", None)
    assert decision.history == History(changes=((NOW, becomes - current),) if becomes != current else ())


def test_unknown_keeps_what_is_remembered() -> None:
    history = History(((NOW - 20, 7), (NOW - 10, 3)), ((NOW - 20, 2),))
    assert decide(of(), 5, None, history, NOW).history == history


@pytest.mark.parametrize(
    ("demand", "least", "most", "becomes"),
    [
        (work(0), 0, 9, 0),
        (work(0), 1, 9, 1),
        (work(3), 0, 9, 3),
        (work(9), 0, 9, 9),
        (work(10), 0, 9, 9),
        (work(2), 2, 9, 2),
        (work(2), 3, 9, 3),
        (work(2, least=4), 0, 9, 4),
        (work(4, least=2), 0, 9, 4),
        (work(2, least=12), 0, 9, 9),
        (work(0, least=1), 0, 9, 1),
        # An engine that says there is work, and that no worker could use it, still gets one.
        (Demand(0, waiting=1, running=0, slots=1, least=0, unit="tasks"), 0, 9, 1),
        (Demand(0, waiting=0, running=1, slots=1, least=0, unit="tasks"), 0, 9, 1),
    ],
)
@pytest.mark.parametrize("current", [0, 5, 20])
def test_the_size_is_what_is_asked_for_within_bounds(
    demand: Demand, least: int, most: int, becomes: int, current: int
) -> None:
    assert size(of(least=least, most=most), current, demand) == becomes


@pytest.mark.parametrize(
    ("current", "want", "up", "down", "becomes"),
    [
        (10, 9, 0, 0.1, 10),
        (10, 8, 0, 0.1, 8),
        (10, 11, 0.1, 0, 10),
        (10, 12, 0.1, 0, 12),
        # Each way has its own.
        (10, 9, 0.1, 0.09, 9),
        (10, 11, 0.09, 0.1, 11),
        # Ratios that no float holds.
        (30, 33, 0.1, 0, 30),
        (70, 63, 0, 0.1, 70),
        (3, 4, 1 / 3, 0, 3),
        (1000, 1035, 35 * 1e-3, 0, 1000),
        (1000, 1036, 35 * 1e-3, 0, 1036),
        # From nothing, and to nothing, there is no ratio.
        (0, 1, 5, 5, 1),
        (1, 0, 5, 5, 0),
        (5, 1, 5, 5, 5),
    ],
)
def test_tolerance(current: int, want: int, up: float, down: float, becomes: int) -> None:
    by = of(up=replace(FREE, tolerance=up), down=replace(FREE, tolerance=down), most=2000)
    decision = decide(by, current, work(want), History(), NOW)
    assert decision.replicas == becomes
    # What is within tolerance is recommended as it is, so that it does not count later.
    assert decision.history.recommendations == ((NOW, becomes),)
    assert (decision.reason == "WithinTolerance") == (becomes == current)
    assert decision.again is None


@pytest.mark.parametrize(("current", "becomes"), [(8, 10), (9, 10), (10, 10), (20, 20), (21, 20), (22, 20)])
def test_bounds_know_no_tolerance(current: int, becomes: int) -> None:
    loose = replace(FREE, tolerance=0.5)
    assert size(of(up=loose, down=loose, least=10, most=20), current, work(current)) == becomes


@pytest.mark.parametrize(
    ("recommended", "want", "becomes", "again"),
    [
        # As old as the window: gone.
        ([(30, 9)], 3, 3, None),
        ([(29.5, 9)], 3, 5, 0.5),
        # Higher than the size is not asked for now, but does not agree with a lower one either.
        ([(29, 9), (8, 6), (4, 4)], 3, 5, 22),
        ([(31, 9), (8, 4), (2, 1)], 3, 4, 22),
        ([(29, 2), (8, 1)], 3, 3, None),
        # Down has nothing to say about up.
        ([(1, 2)], 8, 8, None),
    ],
)
def test_down_is_the_highest_of_its_window(
    recommended: list[tuple[float, int]], want: int, becomes: int, again: float | None
) -> None:
    history = History(tuple((NOW - age, was) for age, was in recommended))
    decision = decide(of(down=replace(FREE, window=30)), 5, work(want), history, NOW)
    assert (decision.replicas, decision.again) == (becomes, again)
    assert (decision.reason == "ScaleDownStabilized") == (becomes > want)


@pytest.mark.parametrize(
    ("recommended", "want", "becomes", "again"),
    [
        ([(30, 3)], 9, 9, None),
        ([(29.5, 3)], 9, 5, 0.5),
        ([(29, 6), (8, 7)], 9, 6, 1),
        ([(29, 5), (28, 3), (8, 7)], 9, 5, 2),
        ([(29, 20)], 9, 9, None),
        ([(1, 9)], 3, 3, None),
    ],
)
def test_up_is_the_lowest_of_its_window(
    recommended: list[tuple[float, int]], want: int, becomes: int, again: float | None
) -> None:
    history = History(tuple((NOW - age, was) for age, was in recommended))
    decision = decide(of(up=replace(FREE, window=30)), 5, work(want), history, NOW)
    assert (decision.replicas, decision.again) == (becomes, again)
    assert (decision.reason == "ScaleUpStabilized") == (becomes < want)


def test_a_window_of_nothing_knows_only_the_present() -> None:
    history = History(((NOW, 5),))
    assert size(of(), 5, work(9), history) == 9
    assert size(of(), 5, work(1), history) == 1


def test_a_start_holds_for_a_window() -> None:
    by = rules({"minReplicas": 0, "maxReplicas": 8})
    history = begin(6, NOW)
    for later, becomes, again in [(0, 6, 20), (12.5, 6, 7.5), (19.5, 6, 0.5), (20, 0, None)]:
        decision = decide(by, 6, work(0), history, NOW + later)
        assert (decision.replicas, decision.again) == (becomes, again)
        history = decision.history
    assert decide(by, 6, work(8), begin(6, NOW), NOW).replicas == 8


UP = [
    ((("Pods", 4, 60),), "Max", 10, [], 14),
    ((("Pods", 4, 60),), "Max", 10, [(59, 3)], 11),
    ((("Pods", 4, 60),), "Max", 10, [(60, 3)], 14),
    ((("Pods", 4, 60),), "Max", 10, [(59, 4)], 10),
    # More than ever was allowed, by older rules: never a reason to go down.
    ((("Pods", 4, 60),), "Max", 10, [(59, 7)], 10),
    # What went within the period was there at its start.
    ((("Pods", 4, 60),), "Max", 10, [(59, 3), (30, -2)], 13),
    ((("Percent", 50, 60),), "Max", 10, [], 15),
    ((("Percent", 50, 60),), "Max", 11, [], 17),
    ((("Percent", 10, 60),), "Max", 1, [], 2),
    # 110.00000000000001 in floats.
    ((("Percent", 10, 60),), "Max", 100, [], 110),
    ((("Percent", 50, 60),), "Max", 0, [], 1),
    ((("Percent", 50, 60),), "Max", 1, [(10, 1)], 1),
    ((("Percent", 50, 60),), "Max", 12, [(10, 2)], 15),
    ((("Pods", 4, 60), ("Percent", 50, 60)), "Max", 10, [], 15),
    ((("Pods", 4, 60), ("Percent", 50, 60)), "Min", 10, [], 14),
    ((("Pods", 4, 60), ("Percent", 50, 60)), "Max", 4, [], 8),
    ((("Pods", 4, 60), ("Percent", 50, 60)), "Min", 4, [], 6),
    ((("Pods", 4, 60), ("Pods", 6, 120)), "Max", 10, [(61, 3)], 14),
    ((("Pods", 4, 60), ("Pods", 6, 120)), "Min", 10, [(61, 3)], 13),
    ((("Pods", 4, 60),), "Disabled", 10, [], 10),
    ((), "Disabled", 0, [], 0),
    ((), "Max", 0, [], 1000),
    ((), "Min", 0, [(1, 900)], 1000),
    ((("Pods", 4, 60),), "Max", 998, [], 1000),
]


@pytest.mark.parametrize(("policies", "select", "current", "changes", "becomes"), UP)
def test_up_by_policies(
    policies: list[tuple[str, int, float]],
    select: str,
    current: int,
    changes: list[tuple[float, int]],
    becomes: int,
) -> None:
    history = History(changes=tuple((NOW - age, change) for age, change in changes))
    decision = decide(of(up=paced(*policies, select=select), most=1000), current, work(5000), history, NOW)
    assert decision.replicas == becomes
    assert decision.reason == ("TooManyReplicas" if becomes == 1000 else "ScaleUpLimit")


DOWN = [
    ((("Pods", 4, 60),), "Max", 10, [], 6),
    ((("Pods", 4, 60),), "Max", 10, [(59, -3)], 9),
    ((("Pods", 4, 60),), "Max", 10, [(60, -3)], 6),
    ((("Pods", 4, 60),), "Max", 10, [(59, -4)], 10),
    ((("Pods", 4, 60),), "Max", 10, [(59, -7)], 10),
    # What came within the period was not there at its start.
    ((("Pods", 4, 60),), "Max", 10, [(59, -3), (30, 2)], 7),
    ((("Percent", 50, 60),), "Max", 10, [], 5),
    ((("Percent", 50, 60),), "Max", 11, [], 5),
    # 0.9999999999999998 in floats.
    ((("Percent", 90, 60),), "Max", 10, [], 1),
    ((("Percent", 50, 60),), "Max", 1, [], 0),
    ((("Percent", 50, 60),), "Max", 8, [(10, -2)], 5),
    ((("Percent", 100, 60),), "Max", 10, [], 0),
    ((("Pods", 4, 60), ("Percent", 50, 60)), "Max", 10, [], 5),
    ((("Pods", 4, 60), ("Percent", 50, 60)), "Min", 10, [], 6),
    ((("Pods", 4, 60), ("Pods", 6, 120)), "Max", 10, [(61, -3)], 6),
    ((("Pods", 4, 60), ("Pods", 6, 120)), "Min", 10, [(61, -3)], 7),
    ((("Pods", 4, 60),), "Disabled", 10, [], 10),
    ((), "Max", 10, [], 0),
    ((("Pods", 4, 60),), "Max", 3, [], 0),
]


@pytest.mark.parametrize(("policies", "select", "current", "changes", "becomes"), DOWN)
def test_down_by_policies(
    policies: list[tuple[str, int, float]],
    select: str,
    current: int,
    changes: list[tuple[float, int]],
    becomes: int,
) -> None:
    history = History(changes=tuple((NOW - age, change) for age, change in changes))
    decision = decide(of(down=paced(*policies, select=select)), current, work(0), history, NOW)
    assert decision.replicas == becomes
    assert decision.reason == ("ScaleDownLimit" if becomes else "DesiredWithinRange")


@pytest.mark.parametrize(
    ("policies", "changes", "again"),
    [
        # This step's own change is the one to wait for.
        ([("Pods", 4, 60)], [], 60),
        ([("Pods", 4, 60)], [(50, 3)], 10),
        # A change the other way gives nothing back.
        ([("Pods", 4, 60)], [(50, -3)], 60),
        ([("Pods", 4, 60), ("Pods", 6, 120)], [(90, 3)], 30),
        ([("Pods", 4, 60), ("Pods", 6, 120)], [(61, 3), (20, 4)], 40),
    ],
)
def test_when_a_policy_allows_more(
    policies: list[tuple[str, int, float]], changes: list[tuple[float, int]], again: float
) -> None:
    history = History(changes=tuple((NOW - age, change) for age, change in changes))
    assert decide(of(up=paced(*policies)), 10, work(99), history, NOW).again == again


def test_what_is_disabled_is_not_waited_for() -> None:
    history = History(changes=((NOW - 5, 3), (NOW - 3, -3)))
    for current, want in ((10, 99), (10, 1)):
        decision = decide(
            of(up=replace(paced(("Pods", 1, 60)), select="Disabled"), down=NO), current, work(want), history, NOW
        )
        assert (decision.replicas, decision.again) == (10, None)


def test_changes_are_remembered_with_their_sign() -> None:
    decision = decide(of(), 2, work(7), History(), NOW)
    assert decision.history == History(((NOW, 7),), ((NOW, 5),))
    decision = decide(of(), 7, work(7), decision.history, NOW + 1)
    assert decision.history == History(((NOW + 1, 7),), ((NOW, 5),))
    decision = decide(of(), 7, work(3), decision.history, NOW + 2)
    assert decision.history == History(((NOW + 1, 7), (NOW + 2, 3)), ((NOW, 5), (NOW + 2, -4)))


@pytest.mark.parametrize(("current", "becomes"), [(4, 5), (5, 5), (10, 10), (11, 10), (50, 10)])
def test_bounds_win_over_windows_and_policies(current: int, becomes: int) -> None:
    for way in (NO, paced(("Pods", 1, 60)), replace(FREE, window=300)):
        history = History(((NOW - 1, current),), ((NOW - 1, 40), (NOW - 3, -80)))
        for want in (0, 99) if way is NO else (current,):
            assert size(of(up=way, down=way, least=5, most=10), current, work(want), history) == becomes


@pytest.mark.parametrize(("current", "want", "becomes"), [(20, 6, 10), (2, 9, 5)])
def test_the_rest_of_the_way_from_out_of_bounds_waits_for_the_window(current: int, want: int, becomes: int) -> None:
    patient = replace(FREE, window=30)
    decision = decide(of(up=patient, down=patient, least=5, most=10), current, work(want), begin(current, NOW - 9), NOW)
    assert (decision.replicas, decision.again) == (becomes, 21)
    assert decision.message.endswith(f", {becomes} for the stabilization window")


@pytest.mark.parametrize(
    ("current", "workers", "least", "most", "becomes"),
    [(8, 1, 4, 9, 4), (8, 4, 4, 9, 4), (4, 0, 4, 9, 4), (3, 0, 4, 9, 4), (8, 0, 9, 6, 6), (6, 0, 9, 6, 6)],
)
def test_work_in_flight_keeps_its_workers(current: int, workers: int, least: int, most: int, becomes: int) -> None:
    decision = decide(of(most=most), current, work(workers, least=least), History(), NOW)
    assert decision.replicas == becomes
    assert (decision.reason == "WorkInFlight") == (workers < least <= most)


# Idle for long


def idle(held: int = 0) -> Demand:
    """Return no work at all, and so many workers that hold results."""
    return Demand(workers=held, waiting=0, running=0, slots=1, least=held, unit="tasks")


def sleepy(least: int = 2, most: int = 9, up: Direction = FREE, down: Direction = FREE, after: float = 60) -> Rules:
    return replace(of(up, down, least, most), idle=after)


@dataclass
class Cluster:
    """A cluster, and what is remembered of it."""

    by: Rules
    size: int
    history: History

    def look(self, demand: Demand | None, now: float) -> Decision:
        decision = decide(self.by, self.size, demand, self.history, now)
        self.size, self.history = decision.replicas, decision.history
        return decision


@pytest.mark.parametrize("window", [0, 30, 3600])
@pytest.mark.parametrize("after", [1, 60, 7200])
def test_a_cluster_that_is_idle_for_long_sleeps(window: float, after: float) -> None:
    cluster = Cluster(sleepy(down=replace(FREE, window=window), after=after), 5, begin(5, NOW))
    first = cluster.look(idle(), NOW)
    assert first.replicas >= 2
    assert first.again is not None
    assert first.again <= after
    decision = cluster.look(idle(), NOW + after - 0.25)
    assert decision.replicas >= 2
    assert (decision.again, decision.reason == "IdleTimeout") == (0.25, False)
    decision = cluster.look(idle(), NOW + after)
    assert (decision.replicas, decision.reason, decision.again) == (0, "IdleTimeout", None)
    assert decision.message.endswith(f", 0 as idle for {after} s")
    for later in (1, 2, 3599, 1e6, 2e9):
        asleep = cluster.look(idle(), NOW + after + later)
        assert (asleep.replicas, asleep.reason, asleep.again) == (0, "IdleTimeout", None)


@pytest.mark.parametrize(
    ("between", "sleeps"),
    [
        (idle(), True),
        (idle(3), False),
        (work(1), False),
        (Demand(0, waiting=1, running=0, slots=1, least=0, unit="tasks"), False),
        (Demand(1, waiting=0, running=1, slots=1, least=1, unit="tasks"), False),
        # There may have been work.
        (None, False),
    ],
)
def test_only_what_is_known_to_be_idle_counts_as_such(between: Demand | None, sleeps: bool) -> None:
    cluster = Cluster(sleepy(), 2, begin(2, NOW))
    cluster.look(idle(), NOW)
    cluster.look(between, NOW + 30)
    assert cluster.look(idle(), NOW + 31).again == (29 if sleeps else 60)
    assert cluster.look(idle(), NOW + 60).replicas == (0 if sleeps else 2)
    assert cluster.look(idle(), NOW + 90.5).replicas == (0 if sleeps else 2)
    assert cluster.look(idle(), NOW + 91).replicas == 0


def test_without_a_timeout_nothing_sleeps() -> None:
    cluster = Cluster(of(least=2), 3, begin(3, NOW))
    for later in (0, 1e5, 1e9):
        decision = cluster.look(idle(3), NOW + later)
        assert (decision.replicas, decision.again) == (3, None)


@pytest.mark.parametrize("least", [0, 1, 2, 5])
@pytest.mark.parametrize(
    ("up", "becomes"), [(FREE, 7), (NO, 0), (replace(FREE, window=3600), 0), (paced(("Pods", 1, 60)), 1)]
)
def test_the_first_work_wakes_at_least_the_least_at_once(least: int, up: Direction, becomes: int) -> None:
    cluster = Cluster(sleepy(least, up=up), 5, begin(5, NOW))
    cluster.look(idle(), NOW)
    cluster.look(idle(), NOW + 60)
    cluster.look(idle(), NOW + 1000)
    assert cluster.size == 0
    decision = cluster.look(work(7), NOW + 1001)
    assert decision.replicas == max(least, becomes)
    # Idle anew, it counts anew.
    cluster.size = max(2, least)
    assert cluster.look(idle(), NOW + 1002).replicas == least
    assert cluster.look(idle(), NOW + 1061.75).replicas == least
    assert cluster.look(idle(), NOW + 1062).replicas == 0


def test_who_may_not_shrink_does_not_sleep() -> None:
    cluster = Cluster(sleepy(down=NO), 0, begin(0, NOW))
    for later, before in [(0, 0), (1e3, 0), (2e3, 1), (3e3, 5)]:
        cluster.size = before
        decision = cluster.look(idle(), NOW + later)
        assert (decision.replicas, decision.again) == (max(2, before), None)
    cluster.size = 0
    assert cluster.look(None, NOW + 4e3).replicas == 2


def test_rate_policies_hold_on_the_way_to_sleep() -> None:
    cluster = Cluster(sleepy(least=3, down=paced(("Pods", 2, 100))), 5, begin(5, NOW))
    told = []
    for later in (0, 59, 60, 99, 100, 159, 160, 199, 200, 299, 300):
        decision = cluster.look(idle(), NOW + later)
        told.append((later, decision.replicas, decision.reason, decision.again))
    assert told == [
        (0, 3, "TooFewReplicas", 60),
        (59, 3, "TooFewReplicas", 1),
        # The two of 100 s have gone already.
        (60, 3, "ScaleDownLimit", 40),
        (99, 3, "ScaleDownLimit", 1),
        (100, 1, "ScaleDownLimit", 100),
        (159, 1, "ScaleDownLimit", 41),
        (160, 1, "ScaleDownLimit", 40),
        (199, 1, "ScaleDownLimit", 1),
        (200, 0, "IdleTimeout", None),
        (299, 0, "IdleTimeout", None),
        (300, 0, "IdleTimeout", None),
    ]


def test_who_sleeps_is_not_woken_by_a_restart_or_by_silence() -> None:
    """The size itself says that it sleeps: no operator has to remember it."""
    cluster = Cluster(sleepy(), 0, begin(0, NOW))
    decision = cluster.look(None, NOW)
    assert (decision.replicas, decision.message) == (0, "demand unknown: 0 workers")
    decision = cluster.look(idle(), NOW + 1)
    assert (decision.replicas, decision.reason, decision.again) == (0, "IdleTimeout", None)
    assert decision.message == "0 tasks waiting and 0 running for 1 slot a worker: 0 workers, 0 until there is work"
    assert cluster.look(None, NOW + 2).replicas == 0
    assert cluster.look(work(1), NOW + 3).replicas == 2
    # Unknown wakes nobody, but nor does it leave less than the least to those awake.
    cluster.size = 1
    assert cluster.look(None, NOW + 4).replicas == 2


def test_a_start_begins_to_count() -> None:
    cluster = Cluster(sleepy(), 2, begin(2, NOW))
    assert cluster.look(idle(), NOW).again == 60


def test_a_clock_set_back_begins_to_count_anew() -> None:
    cluster = Cluster(sleepy(), 2, begin(2, NOW))
    cluster.look(idle(), NOW)
    cluster.look(idle(), NOW + 50)
    assert cluster.look(idle(), NOW + 49).again == 60
    assert cluster.look(None, NOW + 40).history.idle_since is None
    cluster.look(idle(), NOW + 200)
    assert cluster.look(idle(), NOW + 259).replicas == 2
    assert cluster.look(idle(), NOW + 260).replicas == 0


def test_what_comes_first_is_waited_for() -> None:
    """The end of a window, or of the patience with an idle cluster."""
    by = sleepy(down=replace(FREE, window=30), after=20)
    assert decide(by, 5, idle(), begin(5, NOW - 5), NOW).again == 20
    assert decide(replace(by, idle=40.0), 5, idle(), begin(5, NOW - 5), NOW).again == 25
    # At 0 there is nothing left to wait for.
    decision = decide(sleepy(least=0), 5, idle(), History(), NOW)
    assert (decision.replicas, decision.again) == (0, None)


def test_a_size_above_the_most_comes_within_bounds_though_asleep() -> None:
    cluster = Cluster(sleepy(down=paced(("Pods", 1, 600))), 2, begin(2, NOW))
    cluster.look(idle(), NOW)
    cluster.size = 30
    assert cluster.look(idle(), NOW + 60).replicas == 9


# What is said


BUSY = Demand(workers=7, waiting=12, running=2, slots=2, least=0, unit="tasks")
IDLE = Demand(workers=0, waiting=0, running=0, slots=1, least=0, unit="tasks")
HOLDING = Demand(workers=1, waiting=1, running=0, slots=1, least=3, unit="stages")
MESSAGES = [
    (of(), 2, BUSY, "DesiredWithinRange", "12 tasks waiting and 2 running for 2 slots a worker: 7 workers"),
    (
        of(most=5),
        2,
        BUSY,
        "TooManyReplicas",
        "12 tasks waiting and 2 running for 2 slots a worker: 7 workers, 5 for maxReplicas",
    ),
    (
        of(least=1),
        1,
        IDLE,
        "TooFewReplicas",
        "0 tasks waiting and 0 running for 1 slot a worker: 0 workers, 1 for minReplicas",
    ),
    (
        of(),
        4,
        HOLDING,
        "WorkInFlight",
        "1 stages waiting and 0 running for 1 slot a worker: 1 worker, 3 for work in flight",
    ),
    (
        of(up=replace(FREE, tolerance=0.5)),
        6,
        BUSY,
        "WithinTolerance",
        "12 tasks waiting and 2 running for 2 slots a worker: 7 workers, 6 within tolerance",
    ),
    (
        of(up=replace(FREE, window=9)),
        2,
        BUSY,
        "ScaleUpStabilized",
        "12 tasks waiting and 2 running for 2 slots a worker: 7 workers, 3 for the stabilization window",
    ),
    (
        of(down=replace(paced(("Pods", 1, 60)), window=9)),
        5,
        IDLE,
        "ScaleDownLimit",
        "0 tasks waiting and 0 running for 1 slot a worker: 0 workers,"
        " 3 for the stabilization window, 4 for the rate policy",
    ),
    (
        of(down=NO),
        5,
        IDLE,
        "ScaleDownLimit",
        "0 tasks waiting and 0 running for 1 slot a worker: 0 workers, 5 as scaling down is disabled",
    ),
    (of(), 1, None, "DemandUnknown", "demand unknown: 1 worker"),
    (of(least=2), 1, None, "DemandUnknown", "demand unknown: 2 workers for minReplicas"),
]


@pytest.mark.parametrize(("by", "current", "demand", "reason", "message"), MESSAGES)
def test_what_is_said(by: Rules, current: int, demand: Demand | None, reason: str, message: str) -> None:
    decision = decide(by, current, demand, History(((NOW - 1, 3),)), NOW)
    assert (decision.reason, decision.message) == (reason, message)


# Clocks and memory


def test_a_clock_set_back_begins_anew() -> None:
    by = rules({"minReplicas": 0, "maxReplicas": 8})
    # Nothing was wanted for long, and the size is about to follow.
    decision = decide(by, 6, work(0), History(((NOW - 40, 0), (NOW, 0))), NOW)
    assert decision.replicas == 0
    for demand in (work(0), None):
        history = History(((NOW - 40, 0), (NOW, 0)))
        first = decide(by, 6, demand, history, NOW - 0.5)
        assert first.replicas == 6
        for later, becomes in [(19, 6), (19.5, 0)]:
            assert decide(by, 6, work(0), first.history, NOW + later).replicas == becomes
    assert decide(by, 6, work(8), history, NOW - 5000).replicas == 8


def test_a_clock_set_back_gives_no_pace_away() -> None:
    by = of(up=paced(("Pods", 4, 60)))
    history = History(((NOW, 99),), ((NOW, 4),))
    for now, becomes in [(NOW - 500, 10), (NOW - 441, 10), (NOW - 440, 14)]:
        decision = decide(by, 10, work(99), history, now)
        assert decision.replicas == becomes
        history = decision.history


def test_a_clock_far_ahead_forgets() -> None:
    history = History(((NOW, 9), (NOW, 5)), ((NOW, -4),))
    decision = decide(rules({"maxReplicas": 9}), 5, work(2), history, NOW + 1e9)
    assert (decision.replicas, decision.history) == (2, History(((NOW + 1e9, 2),), ((NOW + 1e9, -3),)))


def test_what_no_rule_can_ask_for_is_forgotten() -> None:
    history = History(((NOW - 3600, 9), (NOW - 3599, 8), (NOW - 1, 3)), ((NOW - 1800, 5), (NOW - 1799, 1)))
    assert decide(of(), 4, None, history, NOW).history == History(((NOW - 3599, 8), (NOW - 1, 3)), ((NOW - 1799, 1),))


def test_only_what_can_be_an_extreme_is_kept() -> None:
    history = History()
    for second, want in enumerate([5, 9, 2, 7, 4, 4, 6]):
        history = decide(of(up=NO, down=NO), 5, work(want), history, NOW + second).history
    # 6 is the last; 7 and 9 were higher than all since, 4 and 2 lower.
    assert history.recommendations == tuple(
        (NOW + second, want) for second, want in [(1, 9), (2, 2), (3, 7), (5, 4), (6, 6)]
    )


def test_memory_is_bounded() -> None:
    by = of(most=20)
    history, current = History(), 0
    for look in range(2000):
        now = NOW + look / 10
        decision = decide(by, current, work(look * 7 % 21), history, now)
        history, current = decision.history, decision.replicas
    assert len(history.recommendations) <= 2 * 21
    assert len(history.changes) <= 201


def test_steady_work_is_one_memory() -> None:
    history = History()
    for second in range(4000):
        history = decide(of(), 5, work(5), history, NOW + second).history
    assert history == History(((NOW + 3999, 5),))


# All of it


def reference(
    by: Rules,
    current: int,
    want: int,
    wanted: Iterable[tuple[float, int]],
    moved: Iterable[tuple[float, int]],
    now: float,
) -> int:
    """Return the size by the words of autoscaling/v2, from everything that ever happened."""
    up = min([want, *(was for time, was in wanted if now - time < by.up.window)])
    down = max([want, *(was for time, was in wanted if now - time < by.down.window)])
    result = current
    result = max(result, up)
    result = min(result, down)
    if result > current:
        reach = [reach_of(policy, 1, current, moved, now) for policy in by.up.policies] or [math.inf]
        limit = {"Max": max(reach), "Min": min(reach), "Disabled": current}[by.up.select]
        result = int(min(result, max(limit, current)))
    elif result < current:
        reach = [reach_of(policy, -1, current, moved, now) for policy in by.down.policies] or [-math.inf]
        limit = {"Max": min(reach), "Min": max(reach), "Disabled": current}[by.down.select]
        result = int(max(result, min(limit, current)))
    return max(by.least, min(by.most, result))


def reach_of(policy: Policy, sign: int, current: int, moved: Iterable[tuple[float, int]], now: float) -> float:
    recent = [change for time, change in moved if now - time < policy.period]
    added = sum(change for change in recent if change > 0)
    removed = -sum(change for change in recent if change < 0)
    start = current - added + removed
    if policy.type == "Pods":
        return start + sign * policy.value
    part = start * (1 + sign * Fraction(policy.value, 100))
    return max(start + 1, math.ceil(part)) if sign > 0 else math.floor(part)


def recommended(by: Rules, current: int, demand: Demand) -> int:
    """Return the size to recommend."""
    asked = max(demand.workers, demand.least, 0 if demand.is_nothing else 1)
    want = max(by.least, min(by.most, asked))
    if by.least <= current <= by.most and current and want:
        tolerance = Fraction(by.up.tolerance if want > current else by.down.tolerance).limit_denominator(1000)
        if abs(Fraction(asked, current) - 1) <= tolerance:
            return current
    return want


POLICIES = st.builds(
    Policy,
    st.sampled_from(["Pods", "Percent"]),
    st.integers(1, 200),
    st.sampled_from([1.0, 15.0, 60.0, 1800.0]),
).filter(lambda policy: policy.value <= 20 or policy.type == "Percent")
TOLERANCES = st.sampled_from([0.0, 0.1, 0.25, 1.5])
WINDOWS = st.sampled_from([0.0, 1.0, 30.0, 300.0, 3600.0])
SELECTS = st.sampled_from(["Max", "Max", "Min", "Disabled"])
DIRECTIONS = st.builds(Direction, WINDOWS, SELECTS, st.lists(POLICIES, max_size=3).map(tuple), TOLERANCES)
BOUNDS = st.tuples(st.integers(0, 4), st.integers(1, 40)).filter(lambda pair: pair[0] <= pair[1])
TIMEOUTS = st.sampled_from([None, None, 1.0, 60.0, 1800.0])
RULES = st.builds(
    lambda bounds, up, down, idle: Rules(*bounds, up, down, idle), BOUNDS, DIRECTIONS, DIRECTIONS, TIMEOUTS
)
DEMANDS = st.one_of(
    st.just(work(0)),
    st.integers(0, 9).map(idle),
    st.integers(0, 60).map(work),
    st.builds(
        Demand,
        workers=st.integers(0, 60),
        waiting=st.integers(0, 99),
        running=st.integers(0, 99),
        slots=st.integers(1, 8),
        least=st.integers(0, 60),
        unit=st.just("tasks"),
    ),
)
# Whole seconds: changes within one are added up, which the reference does not do.
LATER = st.one_of(st.integers(1, 5), st.integers(0, 60), st.integers(-200, 4000))


@dataclass(frozen=True)
class Look:
    """One turn of a loop: so many seconds after the last, somebody may have set the size."""

    later: float
    demand: Demand | None
    resized: int | None


def looks(later: st.SearchStrategy[float]) -> st.SearchStrategy[list[Look]]:
    demands = st.one_of(st.none(), DEMANDS, DEMANDS, DEMANDS)
    resized = st.one_of(st.none(), st.none(), st.none(), st.none(), st.none(), st.integers(0, 50))
    return st.lists(st.builds(Look, later, demands, resized), min_size=1, max_size=25)


many = settings(max_examples=250, deadline=None, derandomize=True)


def sleeps(by: Rules, demand: Demand) -> bool:
    """Tell whether a cluster that has as much to do for long is to have no worker."""
    return by.idle is not None and by.down.select != "Disabled" and demand.is_nothing


def check(by: Rules, before: int, demand: Demand | None, decision: Decision) -> None:
    """Check what holds of every decision, whatever was before."""
    after = decision.replicas
    assert decision.again is None or decision.again > 0
    assert decision.reason.isalpha()
    if demand is None:
        assert after == (0 if before == 0 and sleeps(by, idle()) else max(before, by.least))
        return
    assert after <= by.most
    assert len(decision.history.recommendations) <= 2 * 51
    if sleeps(by, demand):
        # Asleep, it stays so.
        assert after == 0 or before > 0
        return
    assert decision.reason != "IdleTimeout"
    assert after >= by.least
    if after < before:
        assert after >= min(demand.least, by.most)
    if after == 0 < before:
        assert demand.is_nothing


@many
@given(RULES, st.integers(0, 50), looks(LATER))
def test_any_history_is_decided_as_by_autoscaling_v2(by: Rules, current: int, turns: list[Look]) -> None:
    now = NOW
    history = begin(current, now)
    wanted, moved = [(now, current)], list[tuple[float, int]]()
    since: float | None = None
    for turn in turns:
        now += turn.later
        current = current if turn.resized is None else turn.resized
        decision = decide(by, current, turn.demand, history, now)
        check(by, current, turn.demand, decision)

        back = any(time > now for time, _ in (*wanted, *moved))
        wanted = [(min(time, now), was) for time, was in wanted if time > now - 3600] + [(now, current)] * back
        moved = [(min(time, now), change) for time, change in moved if time > now - 1800]
        since = now if since is None or back else since
        if turn.demand is None or not turn.demand.is_nothing:
            since = None
        if turn.demand is not None:
            want = recommended(by, current, turn.demand)
            asleep = since is not None and sleeps(by, turn.demand) and (not current or now - since >= (by.idle or 0))
            if asleep:
                want = 0
                free = replace(by, least=0, down=replace(by.down, window=0))
                assert decision.replicas == reference(free, current, want, wanted, moved, now)
            else:
                assert decision.replicas == reference(by, current, want, wanted, moved, now)
            if decision.replicas < current and not asleep:
                highest = max([want, *(was for time, was in wanted if now - time < by.down.window)])
                assert highest <= decision.replicas or decision.replicas == by.most
                assert not back or by.down.window == 0 or decision.replicas == by.most
            wanted.append((now, want))
        moved += [(now, decision.replicas - current)] * (decision.replicas != current)
        history, current = decision.history, decision.replicas


@many
@given(RULES, st.integers(0, 50), looks(st.floats(0, 3) | st.floats(-1e9, 1e9) | st.floats(-2, 2)), DEMANDS)
def test_steady_demand_settles(by: Rules, current: int, turns: list[Look], demand: Demand) -> None:
    now = NOW
    history = begin(current, now)
    for turn in turns:
        now += turn.later
        current = current if turn.resized is None else turn.resized
        decision = decide(by, current, turn.demand, history, now)
        check(by, current, turn.demand, decision)
        history, current = decision.history, decision.replicas

    # In whole seconds, so that waiting for a time does not miss it by a rounding.
    now = float(math.ceil(now) + 1)
    history = History(
        *(tuple((float(math.ceil(at)), n) for at, n in kept) for kept in (history.recommendations, history.changes))
    )
    before = current
    for _ in range(300):
        decision = decide(by, current, demand, history, now)
        check(by, current, demand, decision)
        history, current = decision.history, decision.replicas
        if decision.again is None:
            break
        # Not a moment earlier than was said.
        early = decide(by, current, demand, history, now + decision.again / 2)
        assert early.replicas == current
        now += decision.again
    else:
        pytest.fail("it never settles")
    way = by.up if recommended(by, before, demand) > before else by.down
    if sleeps(by, demand):
        assert current == 0
    elif way.select == "Disabled":
        assert current == max(by.least, min(by.most, before))
    else:
        assert current == recommended(by, current, demand)
    for later in (1, 29, 31, 1801, 3601, 1e6):
        decision = decide(by, current, demand, history, now + later)
        assert (decision.replicas, decision.again) == (current, None)
        history = decision.history


@many
@given(RULES, looks(st.floats(0, 3) | st.floats(-100, 4000)), st.lists(st.sampled_from([None, idle()])), DEMANDS)
def test_nothing_but_work_wakes_who_sleeps(
    by: Rules, turns: list[Look], nights: list[Demand | None], demand: Demand
) -> None:
    by = replace(by, idle=by.idle or 5.0, down=replace(by.down, select="Max"))
    cluster, now = Cluster(by, 3, begin(3, NOW)), NOW
    for turn in turns:
        now += turn.later
        cluster.look(turn.demand, now)
    for _ in range(100):
        # As many seconds as any policy and any timeout last.
        cluster.look(idle(), now)
        now += 1801
    for number, night in enumerate(nights):
        now += 7 * number - 20
        if number % 3 == 2:
            cluster.history = begin(cluster.size, now)
        assert cluster.look(night, now).replicas == 0
    woken = cluster.look(demand, now + 1)
    if not demand.is_nothing:
        assert woken.replicas >= by.least
    else:
        assert woken.replicas == 0


@many
@given(BOUNDS, st.integers(0, 50), looks(st.floats(0, 3) | st.floats(-100, 4000)))
def test_up_at_once_by_default(bounds: tuple[int, int], current: int, turns: list[Look]) -> None:
    by = rules({"minReplicas": bounds[0], "maxReplicas": bounds[1]})
    now = NOW
    history = begin(current, now)
    for turn in turns:
        now += turn.later
        current = current if turn.resized is None else turn.resized
        decision = decide(by, current, turn.demand, history, now)
        if turn.demand and (want := recommended(by, current, turn.demand)) > current:
            assert decision.replicas == want
        history, current = decision.history, decision.replicas


@pytest.mark.parametrize("blind", [(), (1, 3, 40), range(0, 200, 7)])
@pytest.mark.parametrize("starting", [0, 4])
def test_a_burst_is_one_way_up_and_one_way_down(blind: Iterable[int], starting: int) -> None:
    by = rules({"minReplicas": 0, "maxReplicas": 8})
    history, current, left = begin(0, NOW), 0, 500
    sizes, ready = [0], [0] * starting
    for second in range(150):
        # A worker takes a while to start, and does a task a second.
        ready.append(current)
        left -= min(left, min(ready[-1 - starting :]))
        busy = min(current, left)
        demand = Demand(left, left - busy, busy, slots=1, least=busy, unit="tasks")
        decision = decide(by, current, None if second in blind else demand, history, NOW + second)
        history, current = decision.history, decision.replicas
        if current != sizes[-1]:
            sizes.append(current)
    assert sizes == [0, 8, *sizes[2:]]
    assert sizes[-1] == 0
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
