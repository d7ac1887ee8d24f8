"""Where something is said, and what is wrong with it."""

from dataclasses import dataclass
from typing import Literal

from trireme.errors import TriremeError

ERROR: Literal["error"] = "error"
WARNING: Literal["warning"] = "warning"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value comes from.

    Args:
        source: a file's name, or what else says it, such as `--set replicas=3`.
        line: from 1; 0 where the source has no lines.
        column: from 1, in characters; 0 where the source has no lines.
    """

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, or surprising.

    Args:
        place: where.
        level: `error` for what Helm would refuse or read otherwise than others; `warning` for what may surprise.
        rule: which rule found it, in one word.
        message: what is wrong, and what to do.
    """

    place: Place
    level: Literal["error", "warning"]
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.level}: {self.message}"


class Refused(TriremeError):
    """A file or a setting that is not read any further.

    Args:
        finding: why.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(f"{finding.place}: {finding.message}")
        self.finding = finding


def refuse(place: Place, rule: str, message: str) -> Refused:
    """Return the error of something that is wrong."""
    return Refused(Finding(place, ERROR, rule, message))
