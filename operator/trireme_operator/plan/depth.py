"""How deep an object may be nested: the API server takes 10,000 levels, and code that recurses does not."""

from trireme_operator.api import Object

MAX_LEVELS = 100
"""Below spec; what anybody writes has some ten."""


def too_deep(item: Object) -> str:
    """Return the field of an object's spec that is nested too deeply, such as `spec.values`; empty if none is."""
    for name, value in item["spec"].items():
        level = [value]
        for _ in range(MAX_LEVELS):
            level = [inner for outer in level for inner in _inner(outer)]
            if not level:
                break
        else:
            return f"spec.{name}"
    return ""


def _inner(value: object) -> list[object]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for one in inner if isinstance(one, dict | list)]


def told(field: str) -> str:
    """Say so, and what to do."""
    return f"{field}: nested deeper than {MAX_LEVELS} levels: make it flatter"
