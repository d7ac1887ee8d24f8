"""Sets values in the text of a file: comments, order and style of everything else stay."""

import re
from typing import Any

import yaml

from trireme.values.layers import copied
from trireme.values.places import Place, Refused, refuse
from trireme.values.reading import Document, Node, plain, read
from trireme.values.scalars import resolve, surprise
from trireme.values.setting import Assignment, Path, apply, shown

_STEP = 2
# Text that needs no quotes in a block or in a flow, whoever reads it.
_PLAIN = re.compile(r"[A-Za-z0-9_/.][A-Za-z0-9_/.@%+=~-]*(:[A-Za-z0-9_/.@%+=~-]+)*")
# What YAML 1.1 takes for dates and for numbers of base 60.
_ODD = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*|=|<<")


def set_value(document: Document, assignment: Assignment) -> Document:
    """Return a document with one more value, or another one.

    Args:
        document: as read.
        assignment: what to set, in the words of --set.

    Raises:
        Refused: the path does not fit, or leads into an alias, or the text can't be changed there safely.
    """
    document.sound()
    path = assignment.path
    expected = copied(document.values)
    apply(expected, assignment, over_null=True)
    # Lines end as the file's do.
    unix = read(document.text.replace("\r\n", "\n").encode(), document.name)
    text = _edited(unix, path, assignment.value, assignment.place)
    if "\r\n" in document.text:
        text = text.replace("\n", "\r\n")
    try:
        changed = read(text.encode(), document.name).sound()
    except Refused:
        changed = None
    if changed is None or plain(changed.values) != plain(expected):
        message = f"{shown(path)} can't be set in {document.name} as it is written: edit it by hand"
        raise refuse(assignment.place, "edit", message)
    return changed


def scalar(value: Any, style: str = "") -> str:
    """Return how a scalar is written, in block or flow.

    Args:
        value: text, number, boolean or None.
        style: the quotes to use for text where they can hold it.
    """
    if not isinstance(value, str):
        return (
            {None: "null", True: "true", False: "false"}[value]
            if value is None or isinstance(value, bool)
            else repr(value)
        )
    printable = value.isprintable() and "\ufeff" not in value
    if style == '"' and printable and not set('"\\') & set(value):
        return f'"{value}"'
    if style != "'" and printable and _PLAIN.fullmatch(value) and not _ODD.fullmatch(value) and _is_text(value):
        return value
    if printable:
        return "'" + value.replace("'", "''") + "'"
    written: str = yaml.dump(value, default_style='"', width=2**31, allow_unicode=True)
    return written.rstrip("\n")


def _is_text(text: str) -> bool:
    try:
        value = resolve(text)
    except ValueError:
        return False
    return isinstance(value, str) and surprise(text, value) is None


def flow(value: Any) -> str:
    """Return a value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {flow(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def block(value: Any, indent: int = 0) -> str:
    """Return a map in block style, lists and empty maps in it on one line each, ending by a line break."""
    lines = ""
    for key, below in value.items():
        lines += " " * indent + scalar(key) + ":"
        if isinstance(below, dict) and below:
            lines += "\n" + block(below, indent + _STEP)
        else:
            lines += f" {flow(below)}\n"
    return lines


def _nested(path: Path, value: Any) -> Any:
    for step in reversed(path):
        value = {step: value} if isinstance(step, str) else [*[None] * step, value]
    return value


def _edited(document: Document, path: Path, value: Any, place: Place) -> str:
    text, node = document.text, document.root
    if node is not None and node.kind == "scalar" and node.text:
        return text[: node.start] + block(_nested(path, value)).rstrip("\n") + text[node.end :]
    if node is None or node.kind == "scalar":
        return (text if not text or text.endswith("\n") else text + "\n") + block(_nested(path, value))
    above: Node | None = None
    key: Node | None = None
    for position, step in enumerate(path):
        if node.target is not None or (node.anchor and position):
            raise refuse(place, "edit", _shared(document, node, path[:position]))
        pair = _child(node, step)
        if pair is None:
            return _inserted(text, node, above, key, path[position:], value, place)
        above, (key, node) = node, pair
    if node.anchor:
        raise refuse(place, "edit", _shared(document, node, path))
    return _replaced(text, node, above, key, value)


def _shared(document: Document, node: Node, path: Path) -> str:
    if node.target is not None:
        line = node.target.place.line
        return f"{shown(path)} is an alias of line {line} of {document.name}: set it there, or write it out"
    return f"{shown(path)} has the anchor &{node.anchor}, which others in {document.name} may use: edit it by hand"


def _child(node: Node, step: str | int) -> tuple[Node | None, Node] | None:
    if isinstance(step, int):
        return (None, node.value[step]) if node.kind == "list" and step < len(node.value) else None
    if node.kind != "map":
        return None
    for key, value in node.value:
        # Merged keys have no place of their own here; setting one writes it out.
        if key.kind == "scalar" and str(key.value) == step and not (key.text == "<<" and not key.style):
            return key, value
    return None


def _end(text: str, node: Node) -> int:
    """Return where a node's own text ends; behind it come comments and line breaks."""
    if node.target is not None or node.style == "flow" or node.kind == "scalar":
        if node.kind == "scalar" and node.style in ("|", ">"):
            return node.start + len(text[node.start : node.end].rstrip())
        return node.end
    last = node.value[-1]
    return _end(text, last[1] if isinstance(last, tuple) else last)


def _line_end(text: str, position: int) -> int:
    found = text.find("\n", position)
    return len(text) if found < 0 else found


def _replaced(text: str, node: Node, above: Node | None, key: Node | None, value: Any) -> str:
    end = _end(text, node)
    in_flow = above is not None and above.style == "flow"
    quotes = node.style if node.kind == "scalar" and node.style in ("'", '"') else ""
    if not in_flow and key is not None and above is not None and isinstance(value, dict) and value:
        start = _colon(text, key)
        return text[:start] + "\n" + block(value, key.place.column - 1 + _STEP).rstrip("\n") + text[end:]
    written = scalar(value, quotes) if not isinstance(value, dict | list) else flow(value)
    if key is not None and (node.start == end or (node.kind != "scalar" and node.style == "block")):
        start = _colon(text, key)
        return text[:start] + " " + written + text[end:]
    return text[: node.start] + written + text[end:]


def _colon(text: str, key: Node) -> int:
    """Return the position behind a key's colon."""
    found = re.compile(r"\s*:").match(text, key.end)
    if found is None:
        raise refuse(key.place, "edit", f"{key.text} has no colon: edit it by hand")
    return found.end()


def _inserted(text: str, node: Node, above: Node | None, key: Node | None, path: Path, value: Any, place: Place) -> str:
    step, rest = path[0], _nested(path[1:], value)
    if node.kind == "scalar" or not node.value:
        whole = _nested(path, value)
        if node.style == "flow" and node.kind != "scalar" and above is None:
            return text[: node.start] + flow(whole) + text[node.end :]
        return _replaced(text, node, above, key, whole)
    if isinstance(step, int) and step > len(node.value):
        raise refuse(place, "edit", f"[{step}]: the list has {len(node.value)} items: set [{len(node.value)}] first")
    end = _end(text, node.value[-1][1] if node.kind == "map" else node.value[-1])
    if node.kind == "map" and node.value[-1][1].start == node.value[-1][1].end:
        end = max(end, node.value[-1][0].end)
    if node.style == "flow":
        item = flow(rest) if isinstance(step, int) else f"{scalar(step)}: {flow(rest)}"
        comma = "" if "," in re.sub(r"#.*", "", text[end : node.end - 1]) else ","
        return (
            text[:end] + f"{comma} {item}" + text[end:]
            if comma
            else text[: node.end - 1] + f" {item}" + text[node.end - 1 :]
        )
    column = (node.value[0][0] if node.kind == "map" else node).place.column - 1
    line = f"{' ' * column}- {flow(rest)}\n" if isinstance(step, int) else block({step: rest}, column)
    behind = _line_end(text, end)
    return text[:behind] + "\n" + line.rstrip("\n") + text[behind:]
