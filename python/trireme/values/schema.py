"""Holds values against a chart's values.schema.json, and says where they are off."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import validator_for

from trireme.values.layers import at
from trireme.values.places import ERROR, Finding
from trireme.values.reading import Value, plain
from trireme.values.scalars import shown as in_one_word
from trireme.values.setting import shown

_NAMES = {"object": "a map", "array": "a list", "string": "text", "integer": "a whole number", "number": "a number",
          "boolean": "true or false", "null": "null"}  # fmt: skip


def check(values: Value, schema: Any) -> list[Finding]:
    """Return where values are not as a schema says.

    Args:
        values: with the chart's defaults.
        schema: the chart's, as JSON Schema; the draft is the one it names, 2020-12 if none.
    """
    validator = validator_for(schema)(schema)
    found = [item for error in validator.iter_errors(plain(values)) for item in _findings(values, error)]
    return sorted(found, key=lambda finding: (finding.place.source, finding.place.line, finding.place.column))


def _findings(values: Value, error: ValidationError) -> Iterator[Finding]:
    while error.context:
        # Of several alternatives, the one that is nearest.
        inner = best_match([error])
        if inner is error:
            break
        error = inner
    path = tuple(error.absolute_path)
    value = at(values, path)
    assert value is not None
    name = shown(path)
    if error.validator == "additionalProperties" and isinstance(value.data, dict):
        yield from _unknown(value, name, error)
        return
    yield Finding(value.place, ERROR, "schema", f"{name + ': ' if name else ''}{_message(value, error)}")


def _unknown(value: Value, name: str, error: ValidationError) -> Iterator[Finding]:
    rules: Any = error.schema
    known = list(rules.get("properties", {}))
    validator = validator_for(rules)
    patterns = rules.get("patternProperties", {})
    for key, below in value.data.items():
        if key in known or any(validator({"pattern": pattern}).is_valid(key) for pattern in patterns):
            continue
        full = f"{name}.{shown((key,))}" if name else shown((key,))
        yield Finding(below.key or below.place, ERROR, "schema", f"{full}: there is no such value{nearest(key, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `: did you mean X?`, or what there is."""
    known = list(known)
    alike = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), alike, 1, 0.6)
    if found:
        return f": did you mean {alike[found[0]]}?"
    return f": there are {', '.join(sorted(known))}" if 0 < len(known) <= 12 else ""


def _message(value: Value, error: ValidationError) -> str:
    wanted: Any = error.validator_value
    data: Any = error.instance
    match error.validator:
        case "type":
            kinds = [wanted] if isinstance(wanted, str) else list(wanted)
            names = " or ".join(_NAMES.get(kind, kind) for kind in kinds)
            if "string" in kinds and value.written and isinstance(data, bool | int | float):
                return f"{value.written} is read as {_kind(data)}, and must be {names}: quote it: '{value.written}'"
            return f"must be {names}, not {_kind(data)}"
        case "enum":
            text = in_one_word(data) if not isinstance(data, dict | list) else _kind(data)
            return f"{text} must be one of {', '.join(map(str, wanted))}{_meant(data, wanted)}"
        case "required":
            missing = [name for name in wanted if name not in data]
            return f"{', '.join(missing)} is missing"
        case "minimum" | "exclusiveMinimum":
            return f"{in_one_word(data)} must be {'above' if error.validator != 'minimum' else 'at least'} {wanted}"
        case "maximum" | "exclusiveMaximum":
            return f"{in_one_word(data)} must be {'below' if error.validator != 'maximum' else 'at most'} {wanted}"
        case "minLength" if data == "":
            return "must not be empty"
        case "pattern":
            rules: Any = error.schema
            meaning = rules.get("description", "").rstrip(".")
            return f"{data!r} does not match {wanted}" + (f" ({meaning})" if meaning else "")
        case "uniqueItems":
            return "has the same item twice"
    # One line, however large the value is.
    return " ".join(error.message.split())[:200]


def _meant(data: Any, wanted: list[Any]) -> str:
    if not isinstance(data, str):
        return ""
    alike = {str(each).lower(): str(each) for each in wanted}
    found = difflib.get_close_matches(data.lower(), alike, 1, 0.6)
    return f": did you mean {alike[found[0]]}?" if found else ""


def _kind(data: Any) -> str:
    if data is None or isinstance(data, bool):
        return in_one_word(data)
    if isinstance(data, int | float):
        return f"the number {in_one_word(data)}"
    return "a map" if isinstance(data, dict) else "a list" if isinstance(data, list) else "text"
