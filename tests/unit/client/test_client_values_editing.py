"""Setting values in a file's text: everything else stays as it is written."""

import json

import helm_python
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trireme.values.editing import flow, scalar, set_value
from trireme.values.places import Refused
from trireme.values.reading import plain, read
from trireme.values.setting import Assignment, parse


def edited(text: str, *expressions: str) -> str:
    document = read(text.encode(), "f")
    for expression in expressions:
        for assignment in parse(expression):
            document = set_value(document, assignment)
    return document.text


FILE = """\
# head
image: registry.example/dask:1  # pinned
replicas: 2
empty:
resources:   # what a pod gets
  limits: {cpu: "1", memory: 2Gi}

  # the rest
env:
  # first
  - name: A
    value: 'x'  # why
  - name: B
script: |
  one

  two
flow: [1, {a: b}]
# tail
"""


@pytest.mark.parametrize(
    ("expression", "old", "new"),
    [
        ("replicas=7", "replicas: 2\n", "replicas: 7\n"),
        ("image=other:2", "registry.example/dask:1  # pinned", "other:2  # pinned"),
        ("image=null", "registry.example/dask:1  # pinned", "null  # pinned"),
        ("empty=x", "empty:\n", "empty: x\n"),
        ("empty.a.b=x", "empty:\n", "empty:\n  a:\n    b: x\n"),
        ("resources.limits.cpu=2", 'cpu: "1"', "cpu: 2"),
        ("resources.limits.cpu=500m", 'cpu: "1"', 'cpu: "500m"'),
        ("resources.limits.gpu=1", "memory: 2Gi}", "memory: 2Gi, gpu: 1}"),
        ("resources.requests.cpu=1", "memory: 2Gi}\n", "memory: 2Gi}\n  requests:\n    cpu: 1\n"),
        ("resources=null", 'resources:   # what a pod gets\n  limits: {cpu: "1", memory: 2Gi}\n', "resources: null\n"),
        ("env[0].value=y", "'x'  # why", "'y'  # why"),
        ("env[0].value=no", "'x'  # why", "'no'  # why"),
        ("env[0].other=1", "'x'  # why\n", "'x'  # why\n    other: 1\n"),
        ("env[2].name=C", "  - name: B\n", "  - name: B\n  - {name: C}\n"),
        ("env[1]=x", "- name: B\n", "- x\n"),
        ("script=x", "|\n  one\n\n  two\n", "x\n"),
        ("flow[0]=x", "[1, {a: b}]", "[x, {a: b}]"),
        ("flow[2]={p,q}", "[1, {a: b}]", "[1, {a: b}, [p, q]]"),
        ("flow[1].c.d=1", "{a: b}", "{a: b, c: {d: 1}}"),
        ("flow[1]=1", "{a: b}", "1"),
        ("new=a b", "flow: [1, {a: b}]\n", "flow: [1, {a: b}]\nnew: 'a b'\n"),
        ("new.a=014", "flow: [1, {a: b}]\n", "flow: [1, {a: b}]\nnew:\n  a: '014'\n"),
    ],
)
def test_one_value_changes_and_nothing_else(expression: str, old: str, new: str) -> None:
    assert FILE.count(old) == 1
    assert edited(FILE, expression) == FILE.replace(old, new)


@pytest.mark.parametrize(
    ("text", "expression", "result"),
    [
        ("", "a.b=1", "a:\n  b: 1\n"),
        ("# only\n", "a=1", "# only\na: 1\n"),
        ("# no end", "a=1", "# no end\na: 1\n"),
        ("null\n", "a=1", "a: 1\n"),
        ("{}\n", "a=1", "{a: 1}\n"),
        ("a: 1", "b=2", "a: 1\nb: 2"),
        ("a: {}\n", "a.b=1", "a:\n  b: 1\n"),
        ("a: []\n", "a[0]=x", "a: [x]\n"),
        ("a: {b: 1,}\n", "a.c=2", "a: {b: 1, c: 2}\n"),
        ("a: {\n  b: 1  # why\n}\n", "a.c=2", "a: {\n  b: 1, c: 2  # why\n}\n"),
        ("a: 1\r\nb: 2\r\n", "a=3", "a: 3\r\nb: 2\r\n"),
        ("# c\r\na:\r\n  b: 2\r\n", "a.c=3", "# c\r\na:\r\n  b: 2\r\n  c: 3\r\n"),
        ("a:\n- x\n- y\nb: 1\n", "a[2]=z", "a:\n- x\n- y\n- z\nb: 1\n"),
        ("a:\n    b: 1\n", "a.c=2", "a:\n    b: 1\n    c: 2\n"),
        ("a: !!str 12\n", "a=x", "a: x\n"),
        ("'a b': 1\n", "a b=2", "'a b': 2\n"),
    ],
)
def test_edges_of_files(text: str, expression: str, result: str) -> None:
    assert edited(text, expression) == result


@pytest.mark.parametrize(
    ("text", "expression", "message"),
    [
        ("a: &x {b: 1}\nc: *x\n", "c.b=2", "c is an alias of line 1 of f: set it there, or write it out"),
        ("a: &x {b: 1}\nc: *x\n", "a.b=2", "a has the anchor &x"),
        ("a: &x {b: 1}\nc: *x\n", "a=2", "a has the anchor &x"),
        ("a: 1\n", "a.b=2", "a is no map"),
        ("a: [1]\n", "a[3]=2", "the list has 1 items: set [1] first"),
        ("? a\n: 1\n", "b=2", "b can't be set in f as it is written: edit it by hand"),
        ("a: |+\n  x\n\n", "b=2", "b can't be set in f as it is written"),
        ("a: {b}\n", "a.b=1", "b has no colon: edit it by hand"),
        ("a: 1\na: 2\n", "a=3", "a is there already"),
    ],
)
def test_what_can_not_be_set_is_said(text: str, expression: str, message: str) -> None:
    with pytest.raises(Refused) as caught:
        edited(text, expression)
    assert message in str(caught.value)


def test_an_alias_itself_can_be_replaced() -> None:
    assert edited("a: &x {b: 1}\nc: *x\n", "c=2") == "a: &x {b: 1}\nc: 2\n"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
    | st.text("01e.x_-+:noyf#'\"{}[],&*!|>%@` \n", max_size=8)
)
def test_any_text_is_written_so_that_helm_reads_it(text: str) -> None:
    for style in ("", "'", '"'):
        written = scalar(text, style)
        assert plain(read(f"a: {written}\nb: [{written}]\n".encode(), "f").sound().values) == {"a": text, "b": [text]}
        assert helm_python.values_from_yaml(f"a: {written}\n") == {"a": text}


PATHS = st.lists(st.sampled_from(["a", "b", "c", 0, 1]), min_size=1, max_size=3).filter(
    lambda path: path[0] in ("a", "b", "c")
)
LEAVES = st.sampled_from([1, None, True, "x", "no", "a b", ["x", 1], [], {"k": 1}, {}])
FILES = [
    FILE,
    "a: {b: [1, {c: 2}]}\nb:\n  a: # c\n    - x\n  # d\n\nc: 'x'\n",
    "a:\n- b: 1\n  c: |\n    x\n# e\nb: {\n  a: 1,\n}\n",
    "",
]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(FILES), PATHS, LEAVES)
def test_any_edit_says_what_was_asked_and_loses_no_comment_outside(
    text: str, path: list[str | int], value: object
) -> None:
    document = read(text.encode(), "f")
    try:
        changed = set_value(document, Assignment(tuple(path), value, document.values.place))
    except Refused:
        return
    found = plain(changed.values)
    for step in path:
        found = found[step]
    assert found == value
    assume(path[0] not in plain(document.values))
    assert changed.text.startswith(text.rstrip("\n").rpartition("\n# tail")[0])


def test_flow_is_json_with_fewer_quotes() -> None:
    data = {"a": ["x", 1, None, {"b c": "no"}], "d": {}}
    assert flow(data) == "{a: [x, 1, null, {'b c': 'no'}], d: {}}"
    assert json.loads(json.dumps(plain(read(flow(data).encode(), "f").values))) == data
