"""The table of conditions and reasons has all that the code says, and nothing else."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import trireme_operator
from trireme_operator import reasons

PACKAGE = Path(trireme_operator.__path__[0])
# Where a call has the condition type and the reason.
TYPE = {"Condition": 0}
REASON = {"Condition": 2, "Trouble": 0, "Unreadable": 0, "BadSchedule": 0, "Refused": 3, "event": 1}
# These say in the same word what counted for a size, for people or for nobody.
INTERNAL = {"Decision", "Scaling"}


class Unclear(Exception):
    pass


def called(call):
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


class Module:
    """What one module says; names are looked up in the module as it is imported."""

    def __init__(self, path, name, text=None):
        self.path = path
        self.tree = ast.parse(text or path.read_text())
        self.names = vars(importlib.import_module(name)) if text is None else {}

    def said(self, positions, keyword):
        """Yield each word at these positions of calls, and its line."""
        for function, call in self._calls():
            if called(call) in INTERNAL:
                continue
            place = positions.get(called(call))
            words = [call.args[place]] if place is not None and len(call.args) > place else []
            words += [given.value for given in call.keywords if given.arg == keyword]
            for word in words:
                for found in self._strings(word, function):
                    yield found, call.lineno

    def _calls(self):
        functions = [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        within = {id(node): function for function in functions for node in ast.walk(function)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield within.get(id(node)), node

    def _strings(self, word, function) -> Iterator[str]:
        match word:
            case ast.Constant(value=str(text)):
                if text:
                    yield text
            case ast.IfExp(body=body, orelse=orelse):
                yield from self._strings(body, function)
                yield from self._strings(orelse, function)
            case ast.BoolOp(values=values):
                for value in values:
                    yield from self._strings(value, function)
            case ast.Call(func=ast.Attribute(attr="get"), args=[_, default]):
                yield from self._strings(default, function)
            case ast.Name(id=name):
                yield from self._by_name(word, function)
            case ast.Attribute(attr="reason" | "type"):
                pass
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in self.names:
                yield getattr(self.names[module], name)
            case ast.Subscript(slice=ast.Constant(value="reason" | "type")):
                pass
            case _:
                raise Unclear(ast.unparse(word))

    def _by_name(self, word, function):
        """Yield what a name may stand for: a constant, what is assigned to it, the set that it was found in."""
        name = word.id
        if isinstance(found := self.names.get(name), str):
            yield found
            return
        for node in ast.walk(function) if function else ():
            match node:
                case ast.If(
                    test=ast.Compare(left=ast.Name(id=left), ops=[ast.In()], comparators=[ast.Name(id=several)]),
                    body=body,
                ) if left == name and any(word in ast.walk(line) for line in body):
                    yield from self.names[several]
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                    if isinstance(value, ast.IfExp | ast.BoolOp | ast.Constant):
                        yield from self._strings(value, function)


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(("trireme_operator", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        if name not in ("trireme_operator.__main__", "trireme_operator.reasons", "trireme_operator.crds"):
            yield Module(path, name)


def everywhere(positions, keyword):
    """Return where in the code each word is said."""
    found: dict[str, str] = {}
    for module in modules():
        for word, line in module.said(positions, keyword):
            found.setdefault(word, f"{module.path.relative_to(PACKAGE.parent)}:{line}")
    return found


def test_every_condition_type_is_in_the_table():
    said, known = everywhere(TYPE, "type"), {one.name for one in reasons.TYPES}
    missing = {name: where for name, where in said.items() if name not in known}
    assert not missing, "add a Type to TYPES in operator/trireme_operator/reasons.py, then `make generate`"
    assert not known - said.keys(), "no code sets these: remove them from TYPES in operator/trireme_operator/reasons.py"


def test_every_reason_is_in_the_table():
    said, known = everywhere(REASON, "reason"), {one.name for one in reasons.REASONS}
    missing = {name: where for name, where in said.items() if name not in known}
    assert not missing, "add a Reason to REASONS in operator/trireme_operator/reasons.py, then `make generate`"
    ours = {one.name for one in reasons.REASONS if not one.passed_on}
    # Events have it for any condition that loses the reason Suspended.
    stale = ours - said.keys() - {"Resumed"}
    assert not stale, "no code says these: remove them from REASONS in operator/trireme_operator/reasons.py"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ('Trouble("New", "text")', {"New"}),
        ('Condition("Ready", False, "New" if x else "Old", "text")', {"New", "Old"}),
        ('Trouble(condition.get("reason", "New"), "text")', {"New"}),
        ('Refused("about", "text", False, reason="New")', {"New"}),
        ('events.event(about, "New", "text", "Warning", now)', {"New"}),
        ('def f():\n  word = "New" if x else "Old"\n  return Trouble(word, "text")', {"New", "Old"}),
        ('Condition("Ready", False, trouble.reason, "text")', set()),
        ('Condition("Ready", False, found["reason"], "text")', set()),
    ],
)
def test_what_the_code_says_is_found(code, words):
    assert {word for word, _ in Module(None, "", code).said(REASON, "reason")} == words


def test_a_reason_that_is_put_together_is_refused():
    with pytest.raises(Unclear):
        list(Module(None, "", 'Trouble(f"{x}Failed", "text")').said(REASON, "reason"))


def test_the_table_is_well_formed():
    names = [one.name for one in reasons.REASONS]
    assert len(names) == len(set(names))
    types = {one.name for one in reasons.TYPES}
    for one in reasons.REASONS:
        assert re.fullmatch(r"[A-Z][A-Za-z]*", one.name)
        assert set(one.of) <= types
        assert one.meaning
        assert one.fix or one.told is not reasons.Told.WARNING, f"{one.name}: say what to do about it"


def test_links_of_the_table_lead_somewhere():
    for name, anchor in re.findall(r"\]\(([a-z]+\.md)#([a-z-]+)\)", reasons.text()):
        headings = re.findall(r"^#+ (.+)$", (reasons.DOCUMENT.parent / name).read_text(), re.MULTILINE)
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
