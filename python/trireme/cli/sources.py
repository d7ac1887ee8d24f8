"""What users name on the command line, read and checked before anything is created."""

import ast
import re
from math import ceil
from pathlib import Path

import click

from trireme.errors import TriremeError
from trireme.requirements import is_requirement

_RANGE = re.compile(r"([0-9]+)(?:\.\.([0-9]+))?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)", re.ASCII)
_SIZES = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_MOST_SECONDS = 2**31
MOST_WORKERS = 1000


def duration(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """Read a duration as kubectl takes it, in whole seconds, rounded up."""
    if text is None:
        return None
    parts = _DURATION.findall(text)
    seconds = sum(float(number) * _SIZES[unit] for number, unit in parts)
    if "".join(f"{number}{unit}" for number, unit in parts) != text or not 0 < seconds < _MOST_SECONDS:
        raise click.BadParameter(f"{text!r} is no duration, such as 30s, 5m or 1h30m")
    return ceil(seconds)


def seconds(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """Read a duration, or a number of seconds."""
    return duration(ctx, param, f"{text}s" if text and text.isascii() and text.isdigit() else text)


def workers(text: str) -> tuple[int, int | None]:
    """Read a number of workers, `4`, or a range, `2..8`: the fewest and, for a range, the most.

    Raises:
        TriremeError: it is neither.
    """
    match = _RANGE.fullmatch(text)
    if match:
        least, most = int(match[1]), None if match[2] is None else int(match[2])
        if least <= (MOST_WORKERS if most is None else most) and (most is None or 1 <= most <= MOST_WORKERS):
            return least, most
    raise TriremeError(f"--workers: {text!r} is neither a number, such as 4, nor a range, such as 2..8", 2)


def script(path: Path) -> str:
    """Read a Python program.

    Raises:
        TriremeError: there is none, or it has a syntax error, and in which line.
    """
    try:
        text = path.read_text()
        ast.parse(text, str(path))
    except FileNotFoundError:
        raise TriremeError(f"{path}: there is no such file") from None
    except OSError as error:
        raise TriremeError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TriremeError(f"{path}: is no text in UTF-8") from None
    except SyntaxError as error:
        raise TriremeError(f"{path}:{error.lineno}:{error.offset}: {error.msg}") from None
    except ValueError as error:
        raise TriremeError(f"{path}: {error}") from None
    return text


def assignments(words: tuple[str, ...]) -> dict[str, str]:
    """Read `NAME=VALUE` words.

    Raises:
        TriremeError: one is not of that form.
    """
    found = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name:
            raise TriremeError(f"--env: {word!r} is not of the form NAME=VALUE", 2)
        found[name] = value
    return found


def labels(text: str) -> dict[str, str]:
    """Read labels, `KEY=VALUE,...`.

    Raises:
        TriremeError: one is not of that form.
    """
    found = {}
    for word in filter(None, text.split(",")):
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise TriremeError(f"--labels: {word!r} is not of the form KEY=VALUE", 2)
        found[key] = value
    return found


def requirements(words: tuple[str, ...]) -> tuple[str, ...]:
    """Read packages, and files that list them, one a line.

    Raises:
        TriremeError: one is neither, or says how to install rather than what.
    """
    found: list[str] = []
    for word in words:
        found += _listed(Path(word)) if word.endswith(".txt") else [word.strip()]
    for text in found:
        if not is_requirement(text):
            raise TriremeError(
                f"--requirement: {text!r} names no package, such as polars>=1, and no file that lists some, such as"
                " requirements.txt; pip's options are variables, such as --env PIP_INDEX_URL=..., files go by --file",
                2,
            )
    return tuple(found)


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise TriremeError(f"--requirement: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TriremeError(f"--requirement: {path}: is no text in UTF-8") from None
    # As pip: a comment begins a line, or follows a space.
    found = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return [line for line in found if line]
