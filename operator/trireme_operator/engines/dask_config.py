"""Dask's configuration: keys that Dask does not know."""

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice

from trireme_operator.api import Object

_NEAR = 0.75
# What a user mistypes in one place is mistyped in few.
_MOST = 5
# Each is compared with all of Dask's, and most of them may be other libraries'.
_MOST_COMPARED = 100
# Dask's own are shorter, each and with all that is above it.
_MOST_CHARACTERS = 100


def unknown(config: Object, schema: Object) -> list[str]:
    """Return what is wrong with the keys of a configuration, for people: each by its name, the first few.

    Args:
        config: as in dask.yaml.
        schema: JSON schema of the keys that Dask has. Others at the top are other libraries', unless they are nearly
            one of Dask's.
    """
    known = list(_names(schema))
    compared = islice(_unknown(config, schema), _MOST_COMPARED)
    wrong = (path for path in compared if len(path) > 1 or _likely(path[0], known))
    return [_told(path, known) for path in islice(wrong, _MOST)]


def _canonical(name: object) -> str:
    """Return a key as Dask compares it: with hyphens."""
    return str(name).replace("_", "-")


def _unknown(config: Object, schema: Object, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    fields = schema.get("properties")
    if not fields:
        return
    by_name = {_canonical(name): field for name, field in fields.items()}
    for key, value in config.items():
        path = (*above, str(key)[:_MOST_CHARACTERS])
        if _canonical(key) not in by_name:
            yield path
        elif isinstance(value, dict):
            yield from _unknown(value, by_name[_canonical(key)], path)


def _names(schema: Object, above: str = "") -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        yield f"{above}{name}"
        yield from _names(field, f"{above}{name}.")


def _likely(name: str, known: list[str]) -> bool:
    """Tell whether a key at the top is meant for Dask: with dots by accident, or nearly one of Dask's."""
    return "." in name or _beside(name, known) is not None


def _beside(name: str, known: list[str]) -> str | None:
    """Return the key at the same place that is nearly this one."""
    above, _, last = _canonical(name).rpartition(".")
    siblings = {one.rpartition(".")[2]: one for one in known if one.rpartition(".")[0] == above}
    near = get_close_matches(last, siblings, 1, _NEAR)
    return siblings[near[0]] if near else None


def _elsewhere(name: str, known: list[str]) -> str | None:
    """Return the only key that ends so: a level may be missing above it, or be one too many."""
    ends = [one for one in known if one.rpartition(".")[2] == _canonical(name).rpartition(".")[2]]
    return ends[0] if len(ends) == 1 else None


def _told(path: tuple[str, ...], known: list[str]) -> str:
    name = ".".join(path)
    if _canonical(name) in {_canonical(one) for one in known}:
        return f"{name}: write it as nested keys, as dask.yaml has them, not with dots"
    nearest = _beside(name, known) or _elsewhere(name, known)
    return f"{name}: Dask has no such key" + (f"; did you mean {nearest}?" if nearest else "")
