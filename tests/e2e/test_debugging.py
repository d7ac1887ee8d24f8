"""docs/debugging.md as it stands: each manifest is applied, each command prints what is written there."""

import re
import subprocess

import pytest

from on_cluster import CONTEXT, TOP, Kubectl, until

SECTIONS = re.split(r"^## ", (TOP / "docs" / "debugging.md").read_text(), flags=re.MULTILINE)[1:]
TITLES = {section.partition("\n")[0]: section for section in SECTIONS}
# What differs from one run to the next, on both sides.
VARIES = [
    (r"\b[0-9a-f]{32}\b", "HASH"),
    (r"-[a-z0-9]{6,10}-[a-z0-9]{5}\b", "-POD"),
    (r"\b\d{4}-\d\d-\d\d[ T][\d:,.]+Z?", "MOMENT"),
    (r"\b\d+(ms|[smhd])(\d+(ms|[smhd]))*\b(?! ago)", "TIME"),
    (r" \(x\d+ over TIME\)", ""),
    (r"\b\d+\.\d+\.\d+\.final\.0", "VERSION"),
    (r"\b0/\d+ nodes", "0/N nodes"),
    (r"\b\d+ (Insufficient|Preemption)", r"N \1"),
    (r"in \d+\.00 seconds\.\.\. \(\d+/", "in N seconds... (N/"),
    (r"\s+", " "),
]


def normal(line):
    for pattern, instead in VARIES:
        line = re.sub(pattern, instead, line)
    return line.strip()


def blocks(text):
    """Return the fenced blocks: what kind, and the lines."""
    return re.findall(r"^```(yaml|console)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(block):
    """Yield each command of a console, and the lines that it prints."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed.splitlines()


def missing(documented, printed):
    """Return the first documented line that was not printed, after those before it; None if all were."""
    there = iter([normal(line) for line in printed])
    for line in documented:
        if line.strip() == "...":
            continue
        begin, dots, end = normal(line).partition("...") if " ..." in line else (normal(line), "", "")
        found = (
            one for one in there if (one.startswith(begin) and one.endswith(end.strip())) if dots or one == normal(line)
        )
        if next(found, None) is None:
            return line
    return None


@pytest.fixture(scope="module")
def kubectl():
    """All of them at once, in one namespace: most of the time is that which they take to fail."""
    kubectl = Kubectl("debugging-test")
    kubectl("delete", "namespace", kubectl.namespace, "--ignore-not-found")
    kubectl("create", "namespace", kubectl.namespace)
    for text in TITLES.values():
        for kind, block in blocks(text):
            if kind == "yaml":
                kubectl("apply", "--filename=-", stdin=block)
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.mark.parametrize("title", TITLES)
def test_it_goes_as_written(kubectl, title):
    consoles = [block for kind, block in blocks(TITLES[title]) if kind == "console"]
    assert consoles
    for block in consoles:
        for command, documented in commands(block):
            assert command.startswith("kubectl ")
            words = f"kubectl --context={CONTEXT} --namespace={kubectl.namespace}{command.removeprefix('kubectl')}"
            said = []

            def so(words=words, documented=documented, said=said):
                done = subprocess.run(words, shell=True, capture_output=True, text=True, timeout=200, check=False)
                said[:] = [missing(documented, done.stdout.splitlines()), done.stdout, done.stderr]
                return said[0] is None

            try:
                # What only changes something is not to be done twice.
                until(so, seconds=1 if re.match(r"kubectl (scale|patch)", command) else 60)
            except AssertionError:
                raise AssertionError(f"$ {command}\nhas not printed: {said[0]}\n{said[1]}{said[2]}") from None


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
    ],
)
def test_what_counts_as_printed(documented, printed, found):
    assert missing(documented, printed) == found
