"""The grammar of Helm's --set: `a.b=1,c[0].d=x,e={p,q}`, with `\\` before what is meant as it stands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trireme.values.places import Place, Refused, refuse
from trireme.values.reading import Value

Path = tuple[str | int, ...]
MAX_INDEX = 65536
"""As Helm's `MaxIndex`."""
_MAX_LEVELS = 30
_INDEX = re.compile(r"[-+]?[0-9]+")


@dataclass(frozen=True)
class Assignment:
    """One value for one path.

    Args:
        path: keys, and positions in lists.
        value: text, a whole number, a boolean, None, or a list of those.
        place: the expression that says so.
    """

    path: Path
    value: Any
    place: Place


def parse(expression: str, option: str = "--set") -> list[Assignment]:
    """Read what follows --set or --set-string.

    Args:
        expression: such as `replicas=3,resources.limits.cpu=2`.
        option: `--set`, or `--set-string` for values that are all text.

    Raises:
        Refused: Helm would refuse it, or do nothing of what it seems to say.
    """
    return list(_Parser(expression, Place(f"{option} {expression}"), option == "--set-string").assignments())


def path_of(text: str) -> Path:
    """Read a path such as `resources.limits.cpu` or `env[0].name`.

    Raises:
        Refused: it is none.
    """
    if not text:
        return ()
    return parse(f"{text}=", "path")[0].path


def shown(path: Path) -> str:
    """Return a path as `path_of` reads it."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + re.sub(r"([\\.\[\],=])", r"\\\1", step)
    return text


class _Parser:
    def __init__(self, text: str, place: Place, strings: bool) -> None:
        self._text = text
        self._place = place
        self._strings = strings
        self._next = 0

    def assignments(self) -> Iterator[Assignment]:
        while self._next < len(self._text):
            path = self._path()
            yield Assignment(path, self._value(), self._place)

    def _error(self, message: str) -> Refused:
        return refuse(self._place, "set", message)

    def _until(self, stop: str) -> tuple[str, str]:
        """Return what comes before one of some characters, and which it is; empty at the end."""
        found = ""
        while self._next < len(self._text):
            letter = self._text[self._next]
            self._next += 1
            if letter in stop:
                return found, letter
            if letter == "\\":
                if self._next == len(self._text):
                    raise self._error("ends by a backslash: nothing follows that it could be for")
                letter = self._text[self._next]
                self._next += 1
            found += letter
        return found, ""

    def _path(self) -> Path:
        path: list[str | int] = []
        levels = 0
        while True:
            name, last = self._until("=[,.")
            if last in ("", ","):
                raise self._error(f"{shown((*path, name))!r} has no value: write NAME=VALUE")
            if not name:
                raise self._error("an empty name: Helm would do nothing")
            path.append(name)
            while last == "[":
                path.append(self._index())
                between, last = self._until("[.=")
                if between or not last:
                    raise self._error(
                        f"{between or 'nothing'!r} after an index: write NAME[0]=VALUE or NAME[0].NAME=VALUE"
                    )
            if last == "=":
                return tuple(path)
            levels += 1
            if levels > _MAX_LEVELS:
                raise self._error(f"more than {_MAX_LEVELS} levels")

    def _index(self) -> int:
        text, last = self._until("]")
        if not last or not _INDEX.fullmatch(text):
            raise self._error(f"[{text}: an index is a whole number in brackets")
        if not 0 <= int(text) <= MAX_INDEX:
            raise self._error(f"[{text}]: an index is between 0 and {MAX_INDEX}")
        return int(text)

    def _value(self) -> Any:
        if self._text[self._next : self._next + 1] != "{":
            return self._typed(self._until(",")[0])
        self._next += 1
        items = []
        while True:
            item, last = self._until(",}")
            if not last:
                raise self._error("a list must end by }")
            items.append(self._typed(item))
            if last == "}":
                break
        if self._text[self._next : self._next + 1] == ",":
            self._next += 1
        return items

    def _typed(self, text: str) -> Any:
        if self._strings:
            return text
        if text.lower() in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[text.lower()]
        if text == "0":
            return 0
        if text[:1] != "0" and _INDEX.fullmatch(text) and -(2**63) <= int(text) < 2**63:
            return int(text)
        return text


def value_of(data: Any, place: Place) -> Value:
    """Return plain data as Values that come from one place."""
    if isinstance(data, dict):
        return Value({key: value_of(below, place) for key, below in data.items()}, place)
    if isinstance(data, list):
        return Value([value_of(below, place) for below in data], place)
    return Value(data, place)


def apply(values: Value, assignment: Assignment, over_null: bool = False) -> None:
    """Set one value, as Helm does: in the user's values, not in the chart's defaults.

    Args:
        values: a map; it is changed.
        assignment: what to set.
        over_null: whether maps and lists may take the place of null on the way, which Helm refuses outside of lists.

    Raises:
        Refused: something on the way is no map or no list.
    """
    path, place = assignment.path, assignment.place
    above: Value = values
    for position, step in enumerate(path):
        last = position == len(path) - 1
        wanted: type = dict if isinstance(step, str) else list
        if not isinstance(above.data, wanted):
            what = "map" if wanted is dict else "list"
            raise refuse(place, "set", f"{shown(path[:position])} is no {what} ({above.place})")
        below = _below(above, step)
        if last:
            _put(above, step, value_of(assignment.value, place))
            return
        kind: type = dict if isinstance(path[position + 1], str) else list
        if below is None or _gives_way(below, kind, over_null or isinstance(step, int), isinstance(step, int)):
            below = Value(kind(), place)
            _put(above, step, below)
        above = below


def _gives_way(value: Value, kind: type, null: bool, scalar: bool) -> bool:
    """Tell whether a map or list takes a value's place: Helm lets maps do so with any item of a list."""
    return (null and value.data is None) or (scalar and kind is dict and not isinstance(value.data, dict))


def _below(above: Value, step: str | int) -> Value | None:
    if isinstance(step, str):
        return above.data.get(step)  # type: ignore[no-any-return]
    return above.data[step] if step < len(above.data) else None


def _put(above: Value, step: str | int, value: Value) -> None:
    if isinstance(step, str):
        above.data[step] = value
        return
    while len(above.data) <= step:
        above.data.append(Value(None, value.place))
    above.data[step] = value
