"""Kubernetes quantities."""

import re

_SCALE = {
    "": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def number(quantity: str | int) -> float:
    """Return a quantity's value in its base unit: bytes, or whole CPUs.

    Raises:
        ValueError: it is none.
    """
    text = str(quantity)
    found = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)([numkMGTPE]|[KMGTPE]i)?", text)
    if not found:
        raise ValueError(f"{text!r} is not a quantity such as 500m, 2 or 1.5Gi")
    return float(found[1]) * _SCALE[found[2] or ""]


def mebibytes(quantity: str | int) -> float:
    """Return a memory quantity in MiB."""
    return number(quantity) / 2**20
