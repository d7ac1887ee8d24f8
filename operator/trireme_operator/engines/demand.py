"""What an engine's work asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field


class Unavailable(Exception):
    """Who is asked can't tell now; why."""


class Nonsense(Exception):
    """An engine's answer can't be true, or can't be understood; the message says what it was."""


@dataclass(frozen=True)
class Demand:
    """The work that there is, at one time.

    Args:
        workers: as many as the work can use now; more would be idle.
        waiting: units of work that no worker has begun.
        running: units of work that workers have begun, or hold for themselves.
        slots: units that one worker does at a time, at least 1.
        least: workers that have to stay, whatever waits: as many as have work, or as hold what may not be lost.
        unit: what the work is counted in, in the plural.
        costs: what losing a worker costs, by its pod's name: the less, the sooner it goes. 0 for those left out.
        remark: what people should know of it besides, if anything.
    """

    workers: int
    waiting: int
    running: int
    slots: int
    least: int
    unit: str
    costs: Mapping[str, int] = field(default_factory=dict)
    remark: str = ""

    @property
    def is_nothing(self) -> bool:
        """Whether no worker is needed at all."""
        return self.workers == self.waiting == self.running == self.least == 0


# More than any queue holds: an answer that says so is broken.
_MOST = 10**9


def count(answer: object, name: str) -> int:
    """Read a count from an engine's answer.

    Raises:
        Nonsense: it is not there, no whole number, negative, or 10⁹ and more.
    """
    found = answer.get(name) if isinstance(answer, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < _MOST:
        raise Nonsense(f"{name} is {found!r}, where a number from 0 to {_MOST - 1} should be")
    return found


def workers_for(work: int, slots: int) -> int:
    """Return how many workers of so many slots do an amount of work at once."""
    return -(-work // max(1, slots))
