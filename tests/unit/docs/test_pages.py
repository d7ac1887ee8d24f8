"""The documentation: each block is run by a test or says why not, each link leads somewhere, each command is one."""

import ast
import os
import re
import shlex
from pathlib import Path

import click
import pytest

from pages import PAGES, TOP, Block, anchors, every, inline, links, manifests, missing, snippets
from trireme.cli.main import trireme

NOT_RUN = {
    ("docs/design.md", "API (trireme.dev/v1alpha1)", "yaml"): "abridged: the reference has every field, from the CRDs",
}
"""Blocks that no test can run, and why."""
BLOCKS = [block for page in PAGES for block in every(page)]
LANGUAGES = {"console", "sh", "yaml", "python", "text"}
REFERENCE = sorted(str(path.relative_to(TOP)) for path in (TOP / "docs" / "reference").glob("*.md"))


def read_by_tests() -> tuple[set[tuple[str, ...]], set[str]]:
    """Return the places that tests take blocks from, and the pages that they take as a whole."""
    places, whole = set(), set()
    for path in sorted((TOP / "tests").rglob("test_*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                continue
            words = tuple(word.value for word in call.args if isinstance(word, ast.Constant))
            if call.func.id == "snippets" and len(words) == 3:
                places.add(words)
            elif call.func.id == "every" and len(words) == 1:
                whole.add(words[0])
    return places, whole


def applies_samples(block: Block) -> bool:
    """Tell whether a block but applies samples, each of which has a test of its own (tests/e2e/test_demo.py)."""
    found = [re.fullmatch(r"kubectl apply -f (\S+)( +#.*)?", line) for line in block.text.splitlines()]
    return all(line and (TOP / line[1]).is_file() for line in found)


def test_every_block_is_run():
    places, whole = read_by_tests()
    untested = [
        block.place
        for block in BLOCKS
        if not (
            block.place in places
            or block.page in whole
            or block.place in NOT_RUN
            # tests/unit/operator/test_operator_pages.py and tests/e2e/test_docs.py take all of them.
            or (block.language == "yaml" and not block.file)
            or (block.language == "sh" and applies_samples(block))
        )
    ]
    assert untested == [], "run it by a test, or name it in NOT_RUN with its reason"
    assert NOT_RUN.keys() <= {block.place for block in BLOCKS} - places
    assert [block.place for block in BLOCKS if block.language not in LANGUAGES] == []


def test_no_block_is_left_open():
    """A fence that is not closed would hide what is behind it."""
    for page in PAGES:
        assert len(re.findall(r"^\s*```", (TOP / page).read_text(), re.MULTILINE)) == 2 * len(every(page)), page


@pytest.mark.parametrize("page", [*PAGES, *REFERENCE])
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = os.path.normpath(Path(page).parent / path) if path else page
        assert (TOP / target).exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_index_has_every_page():
    listed = [os.path.normpath(Path("docs") / link) for link in links("docs/README.md") if link.endswith(".md")]
    there = [page for page in PAGES if Path(page).name != "README.md"]
    assert sorted(listed) == sorted([*there, *REFERENCE])
    assert "docs/README.md" in links("README.md")


def test_commands_of_make_are_targets():
    targets = re.findall(r"^([a-z0-9-]+):", (TOP / "Makefile").read_text(), re.MULTILINE)
    named = {command.split()[1] for page in PAGES for command in inline(page, "make ")}
    assert named
    assert named - {*targets} == set()


COMMANDS = sorted({command for page in PAGES for command in inline(page, "trireme ")})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_trireme_are_understood(command):
    """Names and options, not what they do; brackets are around what may be left out, capitals stand for a name."""
    words = shlex.split(re.sub(r"[\[\]]", "", command).partition(" > ")[0])[1:]
    words = [word.lower() if word.isupper() and not word.startswith("-") else word for word in words]
    found, name, context = trireme, "trireme", None
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        context = click.Context(found, info_name=name, parent=context)
        name = words.pop(0)
        below = found.get_command(context, name)
        assert below, name
        found = below
    if words and words != ["--help"]:
        found.make_context(name, words, parent=context)


def test_the_layout_is_as_drawn():
    """Every file and folder that docs/design.md draws is there."""
    for text in snippets("docs/design.md", "Layout", "text"):
        first, *lines = text.splitlines()
        base = {"trireme_operator/": "operator/trireme_operator", "trireme/": "python/trireme"}.get(first, "")
        folder = ""
        for line in lines if base else [first, *lines]:
            indent, name = re.match(r"( *)(\S+)", line).groups()
            folder = name if name.endswith("/") else folder if len(indent) > 2 else ""
            inside = name if name == folder else f"{folder}{name}"
            assert (TOP / base / inside).exists(), line


@pytest.mark.parametrize(
    ("documented", "printed", "found"),
    [
        (["a  1m2s"], ["a 33s"], None),
        (["a", "b"], ["a", "b"], None),
        (["a", "b"], ["b", "a"], "b"),
        (["a: b ..."], ["a: b c"], None),
        (["a: ...; end"], ["a: b; end"], None),
        (["a: ...; end"], ["a: b"], "a: ...; end"),
        (["...", "c"], ["a", "b", "c"], None),
        (["x-worker-55b58c6bff-xsfd9 0/1"], ["x-worker-6cf57b455b-blt6c   0/1"], None),
        (["a"], ["ab"], "a"),
        (["mean 11.0 s 0.499984"], ["mean  9.5 s  0.500012"], None),
        (["7 tasks"], ["8 tasks"], "7 tasks"),
    ],
)
def test_what_counts_as_printed(documented, printed, found):
    assert missing(documented, printed) == found


def test_figures_count_by_their_form():
    assert missing(["2.0  439 tasks"], ["200.0  12 tasks"], figures=True) is None
    assert missing(["2.0  439 tasks"], ["200.0  12 jobs"], figures=True) == "2.0  439 tasks"


def test_fields_alone_are_a_cluster():
    (made,) = manifests("docs/spark.md", "  values:\n    a: 1\n")
    assert (made["kind"], made["spec"]) == ("WorkerCluster", {"engine": "spark", "values": {"a": 1}})
    (made,) = manifests("docs/dask.md", "spec:\n  engine: celery\n")
    assert made["spec"] == {"engine": "celery"}
