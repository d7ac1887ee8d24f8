"""Two who drive one size: when that is a fight, with whom, and how it is told."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operating import ENGINES, NOW, STATUS, cluster, condition

from trireme_operator.api import Object
from trireme_operator.plan import rivals
from trireme_operator.plan.conditions import Condition
from trireme_operator.plan.rivals import CONDITION, SCALER, Contest, saw, wrote
from trireme_operator.plan.scaling import Scaling

HPA = "kube-controller-manager"


def field(manager: str, *fields: str, **more: Any) -> Object:
    """Return an entry of managedFields about fields of the spec, as an API server writes it."""
    owned = {f"f:{name}": {} for name in fields}
    return {
        "manager": manager,
        "operation": "Update",
        "apiVersion": "trireme.dev/v1alpha1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": owned},
        **more,
    }


def sized(generation: int, replicas: int | None, *owners: str) -> Object:
    """Return a cluster whose size somebody set: others own the rest of its spec, and its status."""
    item = cluster(**{"autoscaling": {"maxReplicas": 9}, **({} if replicas is None else {"replicas": replicas})})
    others = [
        field("kubectl-client-side-apply", "engine", "autoscaling"),
        {**field("trireme-operator", subresource="status"), "fieldsV1": {"f:status": {"f:replicas": {}}}},
    ]
    managed = [*others, *(field(owner, "replicas", subresource="scale") for owner in owners)]
    return {**item, "metadata": {**item["metadata"], "generation": generation, "managedFields": managed}}


class Fight:
    """A cluster, and who sets its size when."""

    def __init__(self) -> None:
        self.contest, self.now = Contest(), 1000.0
        self.generation, self.size, self.owner = 1, 1, "kubectl"

    def ours(self, size: int = 5) -> None:
        self.contest = wrote(self.contest, self.generation, size)
        self.set(size, SCALER)

    def set(self, size: int, owner: str) -> None:
        self.generation, self.size, self.owner = self.generation + 1, size, owner

    def look(self, later: float = 1.0) -> tuple[str, ...]:
        self.now += later
        self.contest = saw(self.contest, sized(self.generation, self.size, self.owner), self.now)
        return self.contest.rivals

    def lose(self, owner: str = HPA, size: int = 3) -> None:
        self.ours()
        self.look()
        self.set(size, owner)
        self.look()


def test_one_size_set_by_hand_is_no_fight() -> None:
    fight = Fight()
    fight.lose("kubectl")
    # Nor is it one more each time that it is seen, while a window holds the correction back.
    for _ in range(40):
        assert fight.look() == ()
    fight.ours()
    for _ in range(40):
        assert fight.look() == ()


def test_the_second_is() -> None:
    fight = Fight()
    fight.lose()
    fight.lose()
    assert fight.contest.rivals == (HPA,)
    # It does not have to be seen at our size in between.
    other = Fight()
    other.lose()
    other.ours()
    other.set(3, HPA)
    assert other.look() == (HPA,)


@pytest.mark.parametrize(("gap", "fights"), [(10, True), (290, True), (297.5, True), (298, False), (4000, False)])
def test_only_if_it_comes_within_five_minutes(gap: float, fights: bool) -> None:
    fight = Fight()
    fight.lose()
    fight.ours()
    fight.look()
    fight.set(3, HPA)
    assert bool(fight.look(gap + 1)) is fights


def test_it_ends_five_minutes_after_the_last() -> None:
    fight = Fight()
    for _ in range(2):
        fight.lose()
    # As slow a rival as there may be: one fight, and no gap in it.
    for _ in range(5):
        fight.look(200)
        fight.lose()
        assert fight.contest.rivals == (HPA,)
    fight.ours()
    assert fight.look(299.5) == (HPA,)
    assert fight.look(0.5) == ()
    # The next is one again.
    fight.set(3, HPA)
    assert fight.look() == ()


def test_who_has_not_set_anything_fights_nobody() -> None:
    fight = Fight()
    for size in range(10):
        fight.set(size, HPA)
        assert fight.look() == ()


def test_who_accepts_a_size_has_not_lost_the_next() -> None:
    fight = Fight()
    fight.lose()
    for size in (4, 6, 8):
        fight.set(size, HPA)
        assert fight.look() == ()


def test_a_size_that_no_watch_shows_yet_is_not_lost() -> None:
    fight = Fight()
    fight.lose("kubectl")
    old = sized(fight.generation, fight.size, fight.owner)
    fight.ours()
    for second in range(10):
        fight.contest = saw(fight.contest, old, fight.now + second)
    assert fight.contest.times == 1
    assert fight.look() == ()


@pytest.mark.parametrize(
    ("seen", "lost"),
    [
        (sized(9, 3, "kubectl"), True),
        (sized(9, 0, "kubectl"), True),
        (sized(9, 5, "kubectl"), False),
        (sized(9, 3, SCALER), False),
        # As an operator that has just lost its lease.
        (sized(9, 3, "argocd-controller", SCALER), False),
        (sized(9, 3), False),
        (sized(1, 3, "kubectl"), False),
        (sized(2, 3, "kubectl"), True),
        # Where it says nothing it is 1.
        (sized(9, None, "kubectl"), True),
        (cluster(replicas=3), False),
    ],
)
def test_what_is_a_loss(seen: Object, lost: bool) -> None:
    contest = saw(wrote(Contest(), 1, 5), seen, 7.0)
    assert contest == (Contest(None, 7.0, 1, ("kubectl",)) if lost else Contest((1, 5)))


def test_all_that_fight_are_named_as_they_come() -> None:
    fight = Fight()
    for owner in ("kubectl", HPA, "kubectl", "flux", "argocd", "keda", "helm"):
        fight.lose(owner)
    assert fight.contest.rivals == ("kubectl", HPA, "flux", "argocd")
    shared = wrote(wrote(Contest(), 1, 5), 1, 5)
    assert saw(shared, sized(2, 3, "b", "a"), 0.0).by == ("a", "b")


def test_a_clock_set_back_ends_no_fight_late() -> None:
    fight = Fight()
    fight.now = 1e9
    fight.lose()
    fight.lose()
    assert fight.look(-9e8) == (HPA,)
    fight.ours()
    assert fight.look(299.5) == (HPA,)
    assert fight.look(0.5) == ()


STEP = st.one_of(
    st.tuples(st.just("ours"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["kubectl", HPA]), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.sampled_from([1, 30, 299, 301])),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(STEP, max_size=40))
def test_a_fight_is_two_losses_none_long_after_the_one_before(story: list[tuple[str, int]]) -> None:
    fight, mine, losses = Fight(), False, list[tuple[float, str]]()
    for who, what in story:
        if who == "wait":
            found = fight.look(what)
        elif who == "ours":
            # Only what differs is written.
            if what != fight.size:
                fight.ours(what)
                mine, held = True, what
            found = fight.look(0)
        else:
            fight.set(what, who)
            found = fight.look(0)
            if mine and what != held:
                losses.append((fight.now, who))
                mine = False
        recent = [loss for at, loss in enumerate(losses) if all(b - a < 300 for (a, _), (b, _) in pairs(losses[at:]))]
        if not losses or fight.now - losses[-1][0] >= 300 or len(recent) < 2:
            assert found == ()
        else:
            assert found == tuple(dict.fromkeys(who for _, who in recent))


def pairs(losses: list[tuple[float, str]]) -> list[tuple[tuple[float, str], tuple[float, str]]]:
    return list(pairwise(losses))


# How it is told


PEACE = Scaling(5, "9 tasks waiting, 0 running", "")
BEFORE = condition(CONDITION, "True", "TwoWriters")


def fought(*names: str) -> Scaling:
    return Scaling(5, "9 tasks waiting, 0 running", "", rivals=names)


def test_the_message_names_both_and_the_way_out() -> None:
    found = rivals.condition(sized(1, 3, HPA), fought(HPA, "flux"))
    assert found == Condition(
        "ScalingContended",
        True,
        "TwoWriters",
        "trireme-autoscaler and kube-controller-manager (a HorizontalPodAutoscaler, perhaps KEDA's), flux set"
        " spec.replicas in turn, again and again: remove spec.autoscaling, or set spec.autoscaling.mode to Observe,"
        " or let nothing else set spec.replicas",
    )


def with_spec(status: Object | None = None, **spec: Any) -> Object:
    return cluster(status=status, **{"autoscaling": {"maxReplicas": 9}, **spec})


@pytest.mark.parametrize(
    ("item", "scaling", "told"),
    [
        (with_spec(), PEACE, False),
        (with_spec(), None, False),
        (with_spec(), fought(HPA), True),
        # Whether or not the demand is known.
        (with_spec(), Scaling(None, "", "", ("NoAnswer", "silence"), rivals=(HPA,)), True),
        (with_spec({"conditions": [BEFORE]}), PEACE, False),
        (with_spec(suspend=True), fought(HPA), False),
        # Others may, where it does not itself,
        (with_spec(autoscaling={"maxReplicas": 9, "mode": "Observe"}), fought(HPA), False),
        (with_spec({"conditions": [BEFORE]}, autoscaling={"maxReplicas": 9, "mode": "Observe"}), None, False),
        # or is not there at all.
        (cluster(), fought(HPA), False),
        (cluster(status={"conditions": [BEFORE]}), None, False),
    ],
)
def test_when_it_is_told(item: Object, scaling: Scaling | None, told: bool) -> None:
    assert bool(rivals.condition(item, scaling)) is told


def test_an_operator_that_has_just_started_does_not_know_better() -> None:
    found = rivals.condition(with_spec({"conditions": [BEFORE]}), None)
    assert found == Condition(CONDITION, True, "TwoWriters", "so it is")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_condition_is_one_that_a_status_may_have(engine: str) -> None:
    found = rivals.condition(cluster(engine, autoscaling={"maxReplicas": 9}), fought(*("m" * 128 for _ in range(4))))
    assert found
    told = {"type": found.type, "status": "True", "reason": found.reason, "message": found.message}
    STATUS["WorkerCluster"].validate({"conditions": [{**told, "lastTransitionTime": NOW.isoformat()}]})
    assert len(found.message) < 1024
