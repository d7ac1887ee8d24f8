"""How long a cluster need not be asked, and what its history is after that. The time is given."""

from dataclasses import dataclass, replace

from trireme_operator.autoscale.decide import History

ASK_SECONDS = 1.0
"""Between two looks, while something moves; never less."""

# What no news tells of, such as results that a client lets go, is seen that late.
_REST_SECONDS = 15.0
# Engines tell late of what began and was over, or is between two places, when the news came.
_CALM_SECONDS = 5.0
# An engine that does not answer for so long is asked that rarely.
_LOST_SECONDS = 30.0
_LOST_ASK_SECONDS = 5.0


@dataclass(frozen=True)
class Pause:
    """A time in which a cluster is not asked.

    Args:
        seconds: until it is asked again at the latest.
        listens: whether news of its engine end it.
    """

    seconds: float
    listens: bool


def pause(now: float, moved: float, lost: float | None, again: float | None) -> Pause:
    """Decide how long not to ask a cluster; what changes about its objects is to end that in any case.

    Args:
        now: seconds of a monotonic clock, as all of these.
        moved: when something last happened there: work waited or ran, its size or objects changed, news came.
        lost: since when the demand is unknown; None if it is known.
        again: seconds until what the last decision held back could happen; None if time alone changes nothing.
    """
    if lost is not None:
        return Pause(_LOST_ASK_SECONDS if now - lost >= _LOST_SECONDS else ASK_SECONDS, listens=False)
    if now - moved < _CALM_SECONDS:
        return Pause(ASK_SECONDS, listens=False)
    return Pause(max(ASK_SECONDS, _REST_SECONDS if again is None else min(_REST_SECONDS, again)), listens=True)


def held(history: History, until: float) -> History:
    """Return a history in which what was last recommended was so until some time, as if somebody had asked."""
    if not history.recommendations:
        return history
    time, size = history.recommendations[-1]
    if time >= until:
        return history
    return replace(history, recommendations=(*history.recommendations, (until, size)))
