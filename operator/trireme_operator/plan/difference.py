"""What differs between an object as it should be and as it is."""

import hashlib
import json
from typing import Any

from trireme_operator import quantity
from trireme_operator.api import APPLIED_ANNOTATION, Object

# Maps of nothing but quantities, which the API server may write in other words.
_OF_QUANTITIES = {"limits", "requests"}
# Maps in which the API server adds no key of its own, and one that somebody else added changes what all of it means.
_WHOLE = {*_OF_QUANTITIES, "data", "matchLabels", "nodeSelector", "selector"}


def sealed(item: Object) -> Object:
    """Return an object with a digest of itself, by which its next version is told from this one.

    Without it, nothing would show that a field is to go which the operator once applied.
    """
    digest = hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()[:12]
    annotations = {**item["metadata"].get("annotations", {}), APPLIED_ANNOTATION: digest}
    return {**item, "metadata": {**item["metadata"], "annotations": annotations}}


def holds(wanted: Any, found: Any, within: str = "") -> bool:
    """Tell whether all that is wanted is found; keys that the API server or others added do not count, items do.

    Args:
        wanted: what there should be.
        found: what there is.
        within: key of the map that these are, or are in.
    """
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return not wanted and found is None
        if within in _WHOLE and wanted.keys() != found.keys():
            return False
        quantities = within in _OF_QUANTITIES
        return all(holds(value, found.get(key), within if quantities else key) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return not wanted and found is None
        return len(wanted) == len(found) and all(map(holds, wanted, found))
    if isinstance(wanted, str) and not wanted:
        return found in (None, "")
    if within in _OF_QUANTITIES and wanted != found:
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


def correction(wanted: Object, found: Object, within: str = "") -> Object:
    """Return the merge patch for what does not hold; lists in it are whole, so that what was added to them goes."""
    patch: Object = {}
    for key, value in wanted.items():
        there = found.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            below = correction(value, there, key)
            if key in _WHOLE:
                below.update({name: None for name in there if name not in value})
            if below:
                patch[key] = below
        elif not holds(value, there, within if within in _OF_QUANTITIES else key):
            patch[key] = value
    return patch


def merge_patch(before: Object, after: Object) -> Object:
    """Return the merge patch (RFC 7386) that turns one map into another."""
    patch: Object = {key: None for key in before if key not in after}
    for key, value in after.items():
        there = before.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            if below := merge_patch(there, value):
                patch[key] = below
        elif value != there:
            patch[key] = value
    return patch
