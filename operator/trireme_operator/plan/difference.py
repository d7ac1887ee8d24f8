"""Whether an object is already as it should be."""

from typing import Any

from trireme_operator.api import Object


def holds(wanted: Any, found: Any) -> bool:
    """Tell whether all that is wanted is found; what the API server added on its own does not count.

    Written differently counts as different, as `1000m` and `1` do: to apply once too often is harmless.
    """
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return not wanted and found is None
        return all(holds(value, found.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return not wanted and found is None
        return len(wanted) == len(found) and all(map(holds, wanted, found))
    if isinstance(wanted, str) and not wanted:
        return found in (None, "")
    return bool(wanted == found)


def must_apply(wanted: Object, found: Object | None) -> bool:
    """Tell whether an object has to be applied."""
    return found is None or not holds(wanted, found)
