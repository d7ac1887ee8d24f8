"""Whether an object is already as it should be."""

from typing import Any

from trireme_operator import quantity
from trireme_operator.api import Object

_OF_QUANTITIES = {"limits", "requests"}


def holds(wanted: Any, found: Any, quantities: bool = False) -> bool:
    """Tell whether all that is wanted is found; keys that the API server or others added do not count, items do.

    Args:
        wanted: what there should be.
        found: what there is.
        quantities: whether these are values of limits or requests, which the API server may write in other words.
    """
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return not wanted and found is None
        return all(holds(value, found.get(key), key in _OF_QUANTITIES or quantities) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return not wanted and found is None
        return len(wanted) == len(found) and all(map(holds, wanted, found))
    if isinstance(wanted, str) and not wanted:
        return found in (None, "")
    if quantities and wanted != found:
        return _same_quantity(wanted, found)
    return bool(wanted == found)


def _same_quantity(one: Any, other: Any) -> bool:
    try:
        return quantity.number(one) == quantity.number(other)
    except ValueError:
        return False


def must_apply(wanted: Object, found: Object | None) -> bool:
    """Tell whether an object has to be applied."""
    return found is None or not holds(wanted, found)
