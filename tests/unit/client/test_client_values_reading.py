"""Values files: read as Helm reads them, or refused with file, line and column."""

from typing import Any

import helm_python
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trireme.values import reading
from trireme.values.places import ERROR, Refused
from trireme.values.reading import documents, plain, read

SCALARS = """
yes no on off y n Y N Yes NO TRUE True true tRue null Null ~ NULL 014 0o14 0O14 08 019 0x1F 0b11 -014 +12
1_000 1__0 _1 1_ 1e3 1E3 1e+3 1.5e3 1. .5 -.5 1.0 1.50 -0 12:30 12:30:45 2001-01-01 2001-12-14T21:59:43Z
12345678901234567890 9223372036854775808 9007199254740993 -9223372036854775808 18446744073709551616
1000000 1e20 1e400 0x 0b 0b2 0o8 0x_1 1.2.3 1e 0.1.0 ._ . .e3 0_7 -0x1F -0b11 +0x1F 0.0 00 0 007 0e3
1_000.5 1e1_0 0x1p4 Inf NaN nan 1e-3 100m 2Gi 0X1F 0B1 --1 1.e3 -08 0777777777777777777777777
0xFFFFFFFFFFFFFFFF 0x1FFFFFFFFFFFFFFFF -0x8000000000000001 = <<
""".split()  # noqa: SIM905


def helms(text: str) -> Any:
    return as_floats(helm_python.values_from_yaml(text))


def ours(text: str) -> Any:
    return as_floats(plain(read(text.encode(), "f").sound().values))


def as_floats(data: Any) -> Any:
    """JSON's numbers are 64-bit floats here."""
    if isinstance(data, dict):
        return {key: as_floats(value) for key, value in data.items()}
    if isinstance(data, list):
        return [as_floats(value) for value in data]
    return ("number", float(data)) if isinstance(data, int | float) and not isinstance(data, bool) else data


def said(text: str) -> list[str]:
    return [
        f"{finding.place.line}:{finding.place.column} {finding.rule}" for finding in read(text.encode(), "f").findings
    ]


def refusal(text: str | bytes) -> str:
    with pytest.raises(Refused) as caught:
        read(text.encode() if isinstance(text, str) else text, "f").sound()
    return str(caught.value)


@pytest.mark.parametrize("text", SCALARS)
def test_a_scalar_is_what_helm_reads(text: str) -> None:
    assert ours(f"a: {text}\n") == helms(f"a: {text}\n")


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.text("0123456789abxoeEfF_+-.:~nNyYtrulsIi", min_size=1, max_size=9))
def test_any_scalar_is_what_helm_reads_or_is_refused(text: str) -> None:
    try:
        found = ours(f"a: {text}\n")
    except Refused:
        return
    assert found == helms(f"a: {text}\n")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from(
            [
                "a: ",
                "b: ",
                "  ",
                "- ",
                "{",
                "}",
                "[",
                "]",
                ", ",
                "\n",
                "&x ",
                "*x",
                "<<: ",
                "1",
                "no",
                "'",
                '"',
                "|",
                "# c",
                "x",
            ]
        ),
        max_size=14,
    ).map("".join)
)
def test_whatever_is_read_is_what_helm_reads(text: str) -> None:
    try:
        found = ours(text)
    except Refused:
        return
    assert found == helms(text)


@pytest.mark.parametrize(
    "text",
    [
        "base: &b {x: 1, z: 2}\nc:\n  <<: *b\n  x: 3\n",
        "base: &b {x: 1}\nd: &d {x: 2, z: 2}\nc:\n  <<: [*b, *d]\n",
        "a: {<<: {<<: {b: 1}}}\n",
        "8080: x\ntrue: z\n0x10: w\n'': e\n",
        "a: !!str 014\nb: !!int '3'\nc: !!float 3\nd: !!bool yes\ne: !!null ''\ng: !!map {x: 1}\nh: !!seq [1]\n",
        "a:\nb: ''\nc: |\n  x\n   y\nd: >-\n  p\n  q\ne: \"\\x41\\u263a\"\nf: 'it''s'\n",
        "a: {b, c: 1, 'x':1, x:1}\nd: [b: 1]\n",
        "\ufeffa: 1\r\nb: 2\r\n",
        "---\na: 1\n...\n",
        "# only\n",
        "",
        "null\n",
    ],
)
def test_a_file_is_what_helm_reads(text: str) -> None:
    assert ours(text) == helms(text)


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("a: no\n", ["1:4 surprise"]),
        ("a: 1e3\nb: 0o14\nc: 014\nd: 1_000\ne: 1.10\n", [f"{line}:4 surprise" for line in range(1, 6)]),
        ("on: 1\n", ["1:1 surprise"]),
        ("a: 9007199254740993\n", ["1:4 surprise"]),
        ("a: 'no'\nb: true\nc: 12\nd: 1.5\ne: 12:30\nf: 2001-01-01\ng: ~\nh: 0x1F\n", []),
        ("a: &x {b: 1}\nc: *x\n", ["2:4 alias"]),
        ("a: 1\nb: {c: 1, c: 2}\na: 3\n", ["2:11 duplicate", "3:1 duplicate"]),
        ("1: a\n'1': b\n", ["2:1 duplicate"]),
    ],
)
def test_what_may_surprise_is_found(text: str, findings: list[str]) -> None:
    assert said(text) == findings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n\tb: 1\n", "f:2:1: a tab: YAML is indented by spaces"),
        ("a:\n  - b\n\t- c\n", "f:3:1: a tab"),
        ("a: 1\na: 2\n", "f:2:1: a is there already, at line 1: Helm would use this one alone"),
        ("a: [1, 2\n", "f:2:1: not YAML: did not find expected ',' or ']'"),
        ("a: *x\n", "f:1:4: *x: there is no anchor &x above"),
        ("a: &a [*a]\n", "f:1:8: *a is within &a itself"),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "f:1:4: the tag !!python/object/apply:os.system: values are plain",
        ),
        ("a: !foo x\n", "f:1:4: the tag !foo"),
        ("a: ! 12\n", "f:1:4: the tag !"),
        ("a: &b ! 12\n", "f:1:4: the tag !"),
        ("a: !!binary aGk=\n", "f:1:4: the tag !!binary"),
        ("a: !!int 3.5\n", "f:1:4: '3.5' is no !!int"),
        ("a: .inf\n", "f:1:4: .inf: no JSON has this number"),
        ("a: 1\n---\nb: 2\n", "f:2:1: a second document"),
        ("%YAML 1.2\n---\na: 1\n", "f:1:1: a directive"),
        ("- a\n", "f:1:1: values must be a map at the top"),
        ("[a]: 1\n", "f:1:1: a key must be text"),
        ("null: 1\n", "f:1:1: a key must be text: quote it: 'null'"),
        ("1.5: 1\n", "f:1:1: a key must be text: quote it: '1.5'"),
        ("a: {b: 2, <<: {b: 1}}\n", "f:1:11: << must come first"),
        ("a: {<<: 1}\n", "f:1:9: << takes a map"),
        ("a: x\nb: \x01\n", "f:2:4: not YAML"),
        (b"a: x\nb: \xff\n", "f:2:4: not UTF-8"),
    ],
)
def test_what_helm_refuses_or_misreads_is_refused(text: str | bytes, message: str) -> None:
    assert refusal(text).startswith(message)


def laughs(levels: int) -> str:
    above = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    return above + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, levels))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (laughs(9), "more than 100000 values"),
        (
            "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n" for n in range(1, 40)),
            "more than",
        ),
        ("a: " + "[" * 100_000 + "]" * 100_000 + "\n", "nested deeper than 100 levels"),
        ("a: " + "{x: " * 50_000 + "\n", "nested deeper than 100 levels"),
        ("".join("  " * n + "k:\n" for n in range(300)), "nested deeper than 100 levels"),
        ("a0: &a0 x\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 150)), "nested deeper than 100 levels"),
        ("a: " + "- " * 200 + "\n", "not YAML"),
        ("a: '" + "x" * 5_000_000 + "'\n", "too large: the file must be smaller than 5000000 bytes"),
        ("a: [" + "1," * 120_000 + "]\n", "more than 100000 values"),
        ("a: " + "1" * 100_000 + "\n", ""),
        ("a: [" + "&a," * 90_000 + "]\n", ""),
    ],
)
def test_hostile_files_are_refused_at_once(text: str, message: str) -> None:
    if message:
        assert message in refusal(text)
    else:
        read(text.encode(), "f")


def test_documents_of_a_manifest_are_read_one_by_one() -> None:
    assert documents(b"", "f") == []
    assert documents(b"a: &x 1\nb: *x\n---\n---\n- no\n", "f") == [{"a": 1, "b": 1}, None, [False]]
    for text, message in (
        ("a: &x 1\n---\nb: *x\n", "f:3:4: *x: there is no anchor &x above"),
        ("a: 1\n---\nb: 1\nb: 2\n", "f:4:1: b is there already"),
        ("---\n" * 100_001, "more than 100000 values"),
    ):
        with pytest.raises(Refused) as caught:
            documents(text.encode(), "f")
        assert message in str(caught.value)


def test_places_count_characters_and_keys_have_their_own() -> None:
    values = read("ä: {ö: ü, b: [x, 'yy']}\n".encode(), "f").values
    assert (str(values.data["ä"].key), str(values.data["ä"].place)) == ("f:1:1", "f:1:4")
    assert str(values.data["ä"].data["b"].data[1].place) == "f:1:18"


def test_findings_are_bounded() -> None:
    text = "".join(f"k{n}: no\n" for n in range(1000))
    assert len(read(text.encode(), "f").findings) == 100


def test_errors_are_kept_beside_many_warnings() -> None:
    text = "".join(f"k{n}: no\n" for n in range(1000)) + "k1: x\n"
    assert any(finding.level == ERROR for finding in read(text.encode(), "f").findings)


def test_pythons_own_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    text = "# c\na: &x {b: [1, 'no']}\nc: |\n  x\nd: *x\ne: 014\nf:\n"
    fast = read(text.encode(), "f")
    monkeypatch.setattr(reading, "_LOADER", yaml.SafeLoader)
    slow = read(text.encode(), "f")
    assert (fast.values, fast.findings) == (slow.values, slow.findings)
    assert "a tab" in refusal("a:\n\tb: 1\n")
