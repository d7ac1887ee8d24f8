"""Layers of values, as Helm puts them together: chart, files, settings; each value keeps where it comes from."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from trireme.values.places import Place
from trireme.values.reading import Document, Value
from trireme.values.setting import Assignment, Path, apply


def user_values(documents: Iterable[Document], settings: Iterable[Assignment] = ()) -> Value:
    """Return what the user says, as Helm does for -f and --set: the later wins, maps are merged, lists replaced.

    Args:
        documents: values files, in order.
        settings: in order; Helm takes all --set before any --set-string.

    Raises:
        Refused: a file has an error, or a setting does not fit.
    """
    merged = Value({}, Place("nothing"))
    for document in documents:
        merged = _merge(merged, document.sound().values)
    # Settings change maps in place: they are all of `merged`'s own by now, save for whole ones taken over.
    merged = copied(merged)
    for setting in settings:
        apply(merged, setting)
    return merged


def copied(value: Value) -> Value:
    """Return a copy whose maps and lists may be changed."""
    data = value.data
    if isinstance(data, dict):
        data = {key: copied(below) for key, below in data.items()}
    elif isinstance(data, list):
        data = [copied(below) for below in data]
    return Value(data, value.place, value.key, value.written)


def _merge(below: Value, above: Value) -> Value:
    data = dict(below.data)
    for key, value in above.data.items():
        both = isinstance(value.data, dict) and key in data and isinstance(data[key].data, dict)
        data[key] = _merge(data[key], value) if both else value
    return Value(data, above.place, above.key)


def with_defaults(user: Value, defaults: Value) -> Value:
    """Return what the chart's templates see: Helm's coalescing of the user's values with the chart's.

    Null takes a default away; where the chart has none, it stays. So it does in Helm 4.2; Helm 4.0 takes such a null
    away, too, within maps of which the chart has defaults.
    """
    whole = _coalesced(user, _without_nulls(defaults))
    # At the top, unlike below, a default that is null is one.
    kept = {key: below for key, below in whole.data.items() if below.data is not None or key not in defaults.data}
    return Value(kept, whole.place, whole.key)


def _coalesced(user: Value, defaults: Value) -> Value:
    data = dict(user.data)
    for key, default in defaults.data.items():
        if key not in data:
            data[key] = default
        elif data[key].data is None:
            del data[key]
        elif isinstance(data[key].data, dict) and isinstance(default.data, dict):
            data[key] = _coalesced(data[key], default)
    return Value(data, user.place, user.key)


def _without_nulls(value: Value) -> Value:
    if not isinstance(value.data, dict):
        return value
    data = {key: _without_nulls(below) for key, below in value.data.items() if below.data is not None}
    return Value(data, value.place, value.key)


def leaves(value: Value, path: Path = ()) -> Iterator[tuple[Path, Value]]:
    """Yield what is no map or list, or an empty one, with its path."""
    below: Sequence[tuple[str | int, Value]] = ()
    if isinstance(value.data, dict):
        below = list(value.data.items())
    elif isinstance(value.data, list):
        below = list(enumerate(value.data))
    if not below:
        yield path, value
    for step, item in below:
        yield from leaves(item, (*path, step))


def at(value: Value, path: Path) -> Value | None:
    """Return the value at a path, if there is one."""
    found: Any = value
    for step in path:
        data: Any = found.data
        fits = isinstance(data, dict) if isinstance(step, str) else isinstance(data, list)
        if not fits or (step not in data if isinstance(step, str) else step >= len(data)):
            return None
        found = data[step]
    assert isinstance(found, Value)
    return found
