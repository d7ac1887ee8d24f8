"""What users name on the command line, read and checked before anything is created."""

import ast
import re
from pathlib import Path

from trireme.errors import TriremeError

_RANGE = re.compile(r"([0-9]+)(?:\.\.([0-9]+))?")
MOST_WORKERS = 1000


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
