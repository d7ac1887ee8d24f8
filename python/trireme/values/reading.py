"""Reads a values file as Helm does, keeping where everything is, within bounds that no file can break."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from trireme.values.places import ERROR, WARNING, Finding, Place, Refused, refuse
from trireme.values.scalars import resolve, surprise

MAX_BYTES = 5_000_000
"""Files must be smaller; a release with its values must fit into a Secret of 1 MiB, compressed."""
MAX_DEPTH = 100
"""Levels of maps and lists, aliases followed."""
MAX_NODES = 100_000
"""Values in a file, aliases followed."""
_MAX_FINDINGS = 100  # of each level
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE = "tag:yaml.org,2002:"
# "!" alone, which makes text of what follows, and of which PyYAML does not tell.
_NO_TAG = re.compile(r"(&[0-9A-Za-z_-]+\s+)?!\s")
_SCALARS = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}

Kind = Literal["scalar", "map", "list"]


@dataclass(slots=True)
class Node:
    """A piece of a file.

    Args:
        kind: scalar, map or list.
        place: where it starts.
        start: the same as a position in the text.
        end: where it ends; of a block map or list, where the next thing starts.
        value: what Helm reads in a scalar; the pairs of a map; the items of a list.
        text: a scalar as it is written, without its quotes.
        style: of a scalar: "" without quotes, or one of `'"|>`; of a map or list: "flow" or "block".
        anchor: its name, if it has one.
        target: what it is an alias of.
        nodes: how many values it stands for, aliases followed.
        height: its levels, aliases followed.
    """

    kind: Kind
    place: Place
    start: int
    end: int
    value: Any = None
    text: str = ""
    style: str = ""
    anchor: str | None = None
    target: "Node | None" = None
    nodes: int = 1
    height: int = 1


@dataclass(slots=True)
class Value:
    """A value and where it comes from.

    Args:
        data: a scalar, a dict of Values, or a list of Values.
        place: where it is said.
        key: where its key is; None for items of lists.
        written: a scalar without quotes, as it is written.
    """

    data: Any
    place: Place
    key: Place | None = None
    written: str | None = None


@dataclass(frozen=True)
class Document:
    """A values file.

    Args:
        name: the file's.
        text: what it says.
        root: its nodes; None where there are none.
        values: what Helm reads, with places.
        findings: what is wrong or surprising; those of level error make it unfit for use.
    """

    name: str
    text: str
    root: Node | None
    values: Value
    findings: list[Finding] = field(default_factory=list)

    def sound(self) -> "Document":
        """Return the document itself.

        Raises:
            Refused: something in it is an error.
        """
        for finding in self.findings:
            if finding.level == ERROR:
                raise refuse(finding.place, finding.rule, finding.message)
        return self


def plain(value: Value) -> Any:
    """Return a value without its places."""
    if isinstance(value.data, dict):
        return {key: plain(below) for key, below in value.data.items()}
    if isinstance(value.data, list):
        return [plain(below) for below in value.data]
    return value.data


def read(raw: bytes, name: str) -> Document:
    """Read a values file.

    Args:
        raw: its bytes, in UTF-8.
        name: how to call it.

    Raises:
        Refused: it is no YAML, or too large, too deep, or grows too much by aliases.
    """
    text = _decoded(raw, name)
    composer = _Composer(text, name)
    root = next(iter(composer.compose()), None)
    values = composer.values(root) if root else Value({}, Place(name, 1, 1))
    if values.data is None:
        values = Value({}, values.place)
    if not isinstance(values.data, dict):
        raise refuse(values.place, "shape", "values must be a map at the top, such as `replicas: 2`")
    composer.findings.sort(key=lambda finding: (finding.place.line, finding.place.column))
    return Document(name, text, root, values, composer.findings)


def documents(raw: bytes, name: str) -> list[Any]:
    """Read the documents of a manifest, as Helm reads values, without their places.

    Args:
        raw: its bytes, in UTF-8.
        name: how to call it.

    Raises:
        Refused: it is no YAML, or too large, too deep, grows too much by aliases, or has what Helm would refuse.
    """
    composer = _Composer(_decoded(raw, name), name)
    found = [composer.values(root) for root in composer.compose(several=True)]
    for finding in composer.findings:
        if finding.level == ERROR:
            raise Refused(finding)
    return [plain(one) for one in found]


def _decoded(raw: bytes, name: str) -> str:
    if len(raw) >= MAX_BYTES:
        raise refuse(Place(name), "size", f"too large: the file must be smaller than {MAX_BYTES} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        raise refuse(_place(name, before, len(before)), "encoding", "not UTF-8: save the file in UTF-8") from None
    # The mark of the byte order counts as a character for nobody.
    return text.removeprefix("\ufeff")


def _place(name: str, text: str, position: int) -> Place:
    return Place(name, text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position))


class _Composer:
    """Builds the nodes from PyYAML's events: one loop, so that no depth can break it."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.findings: list[Finding] = []
        self._anchors: dict[str, Node | None] = {}

    def found(self, place: Place, level: Literal["error", "warning"], rule: str, message: str) -> None:
        if sum(finding.level == level for finding in self.findings) < _MAX_FINDINGS:
            self.findings.append(Finding(place, level, rule, message))

    def compose(self, several: bool = False) -> list[Node]:
        """Return the root of each document; of one at most, if there may not be `several`."""
        roots: list[Node] = []
        stack: list[Node] = []
        seen = total = 0
        for event in self._events():
            if isinstance(event, yaml.DocumentStartEvent):
                if roots and not several:
                    raise refuse(self._at(event), "documents", "a second document: a values file is one document")
                if event.version or event.tags:
                    raise refuse(self._at(event), "directive", "a directive: Helm refuses most, leave it out")
                self._anchors = {}
                continue
            if isinstance(event, yaml.CollectionEndEvent):
                node = stack.pop()
                end: Any = event.end_mark
                node.end = end.index
                self._measure(node)
            elif isinstance(event, yaml.CollectionStartEvent):
                node = self._collection(event)
                if len(stack) >= MAX_DEPTH:
                    raise refuse(node.place, "depth", f"nested deeper than {MAX_DEPTH} levels")
                stack.append(node)
                continue
            elif isinstance(event, yaml.AliasEvent):
                node = self._alias(event)
            elif isinstance(event, yaml.ScalarEvent):
                node = self._scalar(event)
            else:
                continue
            seen += 1
            if seen > MAX_NODES:
                raise refuse(node.place, "size", f"more than {MAX_NODES} values")
            if stack:
                stack[-1].value.append(node)
                continue
            roots.append(node)
            total += node.nodes
            if total > MAX_NODES:
                raise refuse(node.place, "size", f"more than {MAX_NODES} values, counting what aliases stand for")
        return roots

    def _events(self) -> Iterator[Any]:
        try:
            yield from yaml.parse(self.text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark: Any = error.problem_mark or error.context_mark
            place, position = Place(self.name, mark.line + 1, mark.column + 1), mark.index
            if self.text[position : position + 1] == "\t":
                raise refuse(place, "tab", "a tab: YAML is indented by spaces") from None
            raise refuse(place, "syntax", f"not YAML: {error.problem or error.context}") from None
        except yaml.reader.ReaderError as error:
            raise refuse(_place(self.name, self.text, error.position), "syntax", f"not YAML: {error.reason}") from None

    def _at(self, event: Any) -> Place:
        return Place(self.name, event.start_mark.line + 1, event.start_mark.column + 1)

    def _remember(self, event: Any, node: Node) -> None:
        if event.anchor:
            node.anchor = event.anchor
            # Not to be used before it is whole.
            self._anchors[event.anchor] = node if node.kind == "scalar" else None

    def _collection(self, event: Any) -> Node:
        kind: Kind = "map" if isinstance(event, yaml.MappingStartEvent) else "list"
        node = Node(kind, self._at(event), event.start_mark.index, 0, [], style="flow" if event.flow_style else "block")
        if event.tag and event.tag != _CORE + {"map": "map", "list": "seq"}[kind]:
            self._tag(node.place, event.tag)
        self._remember(event, node)
        return node

    def _measure(self, node: Node) -> None:
        below: list[Node] = node.value
        node.nodes += sum(item.nodes for item in below)
        node.height += max((item.height for item in below), default=0)
        if node.kind == "map":
            # Pairs, from now on.
            node.value = list(zip(below[::2], below[1::2], strict=True))
        if node.anchor:
            self._anchors[node.anchor] = node
        self._bound(node)

    def _bound(self, node: Node) -> None:
        if node.nodes > MAX_NODES:
            raise refuse(node.place, "size", f"more than {MAX_NODES} values, counting what aliases stand for")
        if node.height > MAX_DEPTH:
            raise refuse(node.place, "depth", f"nested deeper than {MAX_DEPTH} levels, counting what aliases stand for")

    def _alias(self, event: Any) -> Node:
        place = self._at(event)
        if event.anchor not in self._anchors:
            raise refuse(place, "alias", f"*{event.anchor}: there is no anchor &{event.anchor} above")
        target = self._anchors[event.anchor]
        if target is None:
            raise refuse(place, "alias", f"*{event.anchor} is within &{event.anchor} itself")
        self.found(
            place, WARNING, "alias",
            f"*{event.anchor} is a copy of line {target.place.line}: another file or --set that changes one"
            " does not change the other",
        )  # fmt: skip
        return Node(
            target.kind, place, event.start_mark.index, event.end_mark.index, target.value, target.text, target.style,
            target=target, nodes=target.nodes, height=target.height,
        )  # fmt: skip

    def _tag(self, place: Place, tag: str) -> None:
        shown = tag.replace(_CORE, "!!")
        self.found(place, ERROR, "tag", f"the tag {shown}: values are plain maps, lists, text, numbers and booleans")

    def _scalar(self, event: Any) -> Node:
        place, style = self._at(event), event.style or ""
        node = Node("scalar", place, event.start_mark.index, event.end_mark.index, event.value, event.value, style)
        self._remember(event, node)
        try:
            if event.tag or _NO_TAG.match(self.text, node.start):
                node.value = self._tagged(node, event.tag or "!")
            elif not style and event.implicit[0]:
                node.value = resolve(event.value)
                if why := surprise(event.value, node.value):
                    self.found(place, WARNING, "surprise", f"{why}: if text is meant, quote it: '{event.value}'")
        except ValueError:
            self.found(place, ERROR, "number", f"{event.value}: no JSON has this number, and Helm refuses it")
        return node

    def _tagged(self, node: Node, tag: str) -> Any:
        wanted = _SCALARS.get(tag.removeprefix(_CORE)) if tag.startswith(_CORE) else None
        if wanted is None:
            self._tag(node.place, tag)
            return node.text
        if wanted is str:
            return node.text
        value = resolve(node.text)
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            return value
        if type(value) is not wanted:
            shown = tag.replace(_CORE, "!!")
            self.found(node.place, ERROR, "tag", f"{node.text!r} is no {shown}: Helm refuses it")
        return value

    def values(self, node: Node, key: Place | None = None) -> Value:
        """Return what Helm reads in a node; its height is bounded."""
        if node.kind == "map":
            return Value(self._map(node), node.place, key)
        if node.kind == "list":
            return Value([self.values(item) for item in node.value], node.place, key)
        return Value(node.value, node.place, key, None if node.style else node.text)

    def _map(self, node: Node) -> dict[str, Value]:
        found: dict[str, Value] = {}
        first: dict[str, Place] = {}
        for position, (key, value) in enumerate(node.value):
            if key.kind == "scalar" and key.text == "<<" and not key.style:
                self._merge(found, key, value, position)
                continue
            name = self._key(key)
            if name is None:
                continue
            if name in first:
                self.found(
                    key.place, ERROR, "duplicate",
                    f"{name} is there already, at line {first[name].line}: Helm would use this one alone",
                )  # fmt: skip
            first.setdefault(name, key.place)
            found[name] = self.values(value, key.place)
        return found

    def _merge(self, found: dict[str, Value], key: Node, value: Node, position: int) -> None:
        if position:
            self.found(
                key.place, ERROR, "merge",
                "<< must come first: Helm lets it override the keys above it, other readers do not",
            )  # fmt: skip
        sources = value.value if value.kind == "list" else [value]
        for source in reversed(sources):
            if source.kind != "map":
                self.found(source.place, ERROR, "merge", "<< takes a map, or a list of maps")
                continue
            found.update(self._map(source))

    def _key(self, key: Node) -> str | None:
        if isinstance(key.value, str):
            return key.value
        if isinstance(key.value, bool):
            return str(key.value).lower()
        if isinstance(key.value, int) and abs(key.value) < 2**53 and key.kind == "scalar" and "." not in key.text:
            return str(key.value)
        self.found(
            key.place, ERROR, "key", f"a key must be text: quote it: '{key.text}'" if key.text else "a key must be text"
        )
        return None
