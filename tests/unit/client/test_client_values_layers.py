"""Layers, --set and null: the same values as Helm's, each with where it comes from."""

import json
from pathlib import Path
from typing import Any

import helm_python
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trireme.values import layers, setting
from trireme.values.layers import at, leaves, user_values, with_defaults
from trireme.values.places import Refused
from trireme.values.reading import Document, plain, read
from trireme.values.setting import parse, path_of, shown


def document(data: Any, name: str = "f") -> Document:
    return read((data if isinstance(data, str) else json.dumps(data)).encode(), name)


def applied(base: Any, *expressions: str) -> Any:
    return plain(user_values([document(base)], [item for text in expressions for item in parse(text)]))


SETS = [
    "a.b=2",
    "a=",
    "a=null",
    "a.c[0]=9",
    "a.c[3]=9",
    "a.c={x,y}",
    "a.c={}",
    "a=[]",
    "n[0].x=1,n[0].y=2",
    "n[1]=1",
    "a\\.b=1",
    "k=a\\,b",
    "k={a\\,b,c}",
    "k=a=b",
    "k=true",
    "k=TRUE",
    "k=yes",
    "k=012",
    "k=0x1F",
    "k=1e3",
    "k=1.5",
    "k=-5",
    "k=0",
    "k=00",
    "k=12345678901234567890",
    "k='a'",
    "k= a ",
    "k =1",
    "k=1,",
    "k[0][1]=x",
    "k={1,null,true,x}",
    "k=\\{a}",
    "k=~",
    "k=a}",
    "k={a},j=1",
    "k={a,}",
    "k={,a}",
    "k\\=x=1",
    "k\\[0]=1",
    "k=+1",
    "k=9223372036854775808",
    "k=a\\nb",
    "k[0].x[1].y=1",
    "k[2].x=1,k[1]=2",
    "k={a,b},k[1]=c",
    "a.b=1,a.c=2,a.b=3",
    "k[0].x=1,k[0].z={a}",
    "k=Null",
    "k=,j=1",
]


@pytest.mark.parametrize("text", SETS)
def test_set_says_what_helm_hears(text: str) -> None:
    assert applied({}, text) == helm_python.parse_set_string(text)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.text("ab.=,[]{}01\\-+n ", min_size=1, max_size=12))
def test_any_set_is_as_helm_hears_it_or_is_refused(text: str) -> None:
    try:
        found = applied({}, text)
    except Refused:
        return
    assert found == helm_python.parse_set_string(text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text("ab.=,[]{}01\\tru", min_size=1, max_size=12))
def test_set_string_is_all_text(text: str) -> None:
    try:
        found = plain(user_values([], parse(text, "--set-string")))
    except Refused:
        return
    assert found == helm_python.parse_set_string_values(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("k", "--set k: 'k' has no value: write NAME=VALUE"),
        ("k=a,b", "'b' has no value"),
        ("=1", "an empty name: Helm would do nothing"),
        ("k..j=1", "an empty name"),
        ("k={a", "a list must end by }"),
        ("k[a]=1", "[a: an index is a whole number"),
        ("k[-1]=1", "[-1]: an index is between 0 and 65536"),
        ("k[65537]=1", "[65537]: an index"),
        ("k[0]a=1", "'a' after an index"),
        ("s.x=1", "s is no map (f:1:7)"),
        ("s[0]=1", "s is no list (f:1:7)"),
        ("k=null,k.x=1", "k is no map"),
        ("k=a\\", "ends by a backslash"),
        (".".join("a" * 40) + "=1", "more than 30 levels"),
    ],
)
def test_a_set_that_helm_refuses_is_refused(text: str, message: str) -> None:
    with pytest.raises(Refused) as caught:
        applied({"s": "text"}, text)
    assert message in str(caught.value)


def test_set_changes_lists_of_files_in_place() -> None:
    base = {"l": ["p", {"x": 1}, [1]]}
    assert applied(base, "l[0].x=1", "l[1].y=2", "l[2][1]=2", "l[4]=q") == {
        "l": [{"x": 1}, {"x": 1, "y": 2}, [1, 2], None, "q"]
    }


def test_paths_are_read_as_they_are_shown() -> None:
    for path in (("a", "b"), ("a.b", 0, "c"), ("x,y=z[0]\\",)):
        assert path_of(shown(path)) == path


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["x", ""]),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=8,
)
MAPS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("chart")
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: c\nversion: 0.1.0\n")
    return folder


@settings(max_examples=150, deadline=None, derandomize=True)
@given(MAPS, MAPS)
def test_defaults_go_below_as_in_helm(chart: Path, defaults: Any, user: Any) -> None:
    (chart / "values.yaml").write_text(json.dumps(defaults))
    helms = helm_python.Chart.load(chart).merge_values(user)
    ours = with_defaults(user_values([document(user)]), document(defaults).values)
    assert plain(ours) == helms


def test_files_are_merged_and_the_later_wins() -> None:
    first = document({"a": {"x": 1, "y": 1}, "l": [1, 2], "m": {"k": 1}})
    second = document({"a": {"y": 2}, "l": [3], "m": 5}, "g")
    merged = user_values([first, second], parse("a.z=3"))
    assert plain(merged) == {"a": {"x": 1, "y": 2, "z": 3}, "l": [3], "m": 5}
    origins = {shown(path): value.place.source for path, value in leaves(merged)}
    assert origins == {"a.x": "f", "a.y": "g", "a.z": "--set a.z=3", "l[0]": "g", "m": "g"}
    # The files themselves stay as they were read.
    assert plain(first.values)["a"] == {"x": 1, "y": 1}


def test_a_default_keeps_its_place() -> None:
    values = with_defaults(user_values([document("a: {x: 1}")]), read(b"a:\n  x: 0\n  z: 2\n", "chart").values)
    found = [str(value.place) for value in (at(values, ("a", "x")), at(values, ("a", "z"))) if value]
    assert found == ["f:1:8", "chart:3:6"]
    assert at(values, ("a", "w")) is None
    assert at(values, ("a", 0)) is None
    assert layers.at(values, setting.path_of("")) is values
