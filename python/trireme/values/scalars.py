"""What Helm reads in a scalar without quotes.

Helm reads values by sigs.k8s.io/yaml, which stands on go-yaml 2: YAML 1.1 with some of 1.2, and every number as a
64-bit float. Tests hold this beside the helm command.
"""

import math
import re
from typing import Any

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_CORE_WORDS = frozenset({"true", "True", "TRUE", "false", "False", "FALSE", "", "~", "null", "Null", "NULL"})
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# What YAML 1.1, YAML 1.2 and Helm read as the same number.
_SAME_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)")
_SAME_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)\.[0-9]*([eE][-+][0-9]+)?")


def resolve(text: str) -> Any:
    """Return what Helm reads: text, a boolean, a number, or None.

    Numbers are as the templates get them, that is rounded to 64-bit floats; whole ones are ints.

    Raises:
        ValueError: a number that JSON has no word for.
    """
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first not in "+-.0123456789":
        return text
    if _INFINITE.fullmatch(text):
        raise ValueError(text)
    plain = text if first == "." else text.replace("_", "")
    number: float | None = _integer(plain)
    if number is None and _FLOAT.fullmatch(plain):
        # Too large for a float: Go leaves it as text.
        number = None if math.isinf(float(plain)) else float(plain)
    return text if number is None else as_number(number)


def _integer(plain: str) -> int | None:
    found = _INTEGER.fullmatch(plain)
    if not found:
        return None
    sign, hexadecimal, binary, octal, decimal = found.groups()
    digits, base = next(
        (text, base) for text, base in ((hexadecimal, 16), (binary, 2), (octal, 8), (decimal, 10)) if text is not None
    )
    number = int(digits, base)
    most = 2**63 if sign == "-" else 2**63 - 1 if sign else 2**64 - 1
    return None if number > most else -number if sign == "-" else number


def as_number(number: float) -> float | int:
    """Return a number as Helm's templates get it."""
    number = float(number)
    return int(number) if number.is_integer() else number


def surprise(text: str, value: Any) -> str | None:
    """Tell why a plain scalar may not be what its writer meant; None if every reader agrees.

    Args:
        text: the scalar as it is written.
        value: what Helm reads, as from `resolve`.
    """
    if isinstance(value, str) or value is None:
        return None
    if isinstance(value, bool):
        return None if text in _CORE_WORDS else f"{text} is read as {str(value).lower()}"
    if _SAME_INTEGER.fullmatch(text):
        exact = int(text, 16) if "x" in text else int(text)
        return None if exact == value else f"{text} is read as {shown(value)}: a 64-bit float has no more digits"
    if re.fullmatch(r"[-+]?0[0-9_]+", text):
        octal = value == _integer(text.replace("_", "")) and not set(text) & {"8", "9"}
        return f"{text} is read as the number {shown(value)}" + (" (octal)" if octal else "")
    if _SAME_FLOAT.fullmatch(text):
        # As 1.10, a version rather than a number.
        return (
            f"{text} is read as the number {shown(value)}" if text.endswith("0") and "e" not in text.lower() else None
        )
    return f"{text} is read as the number {shown(value)}"


def shown(value: Any) -> str:
    """Return a value in one word, as JSON has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value) if isinstance(value, float) else str(value)
