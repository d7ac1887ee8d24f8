"""What the tests read in README.md and docs/: blocks of code, commands with what they print, manifests, links."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

TOP = Path(__file__).resolve().parents[1]
# What is generated has no blocks, and is compared with its sources.
PAGES = sorted(str(path.relative_to(TOP)) for folder in ("", "docs", "python") for path in (TOP / folder).glob("*.md"))
ENGINES = ("dask", "spark", "celery")
_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`(\S+)`:\n\n\Z")
# What differs from one run to the next, on both sides.
_VARIES = [
    (r"\b[0-9a-f]{32}\b", "HASH"),
    (r"-[a-z0-9]{6,10}-[a-z0-9]{5}\b", "-POD"),
    (r"\b\d{4}-\d\d-\d\d[ T][\d:,.]+Z?", "MOMENT"),
    (r"\b\d+(ms|[smhd])(\d+(ms|[smhd]))*\b(?! ago)", "TIME"),
    (r"\b\d+\.\d s\b", "TIME"),
    (r" \(x\d+ over TIME\)", ""),
    (r"\b\d+\.\d+\.\d+\.final\.0", "VERSION"),
    (r"\b0/\d+ nodes", "0/N nodes"),
    # A node that a test beside this one has made.
    (r"\d+ node\(s\) had untolerated taint(\(s\))?( \{trireme.dev/e2e[^}]*\})?, ", ""),
    (r"\b\d+ (Insufficient|Preemption)", r"N \1"),
    (r"in \d+\.00 seconds\.\.\. \(\d+/", "in N seconds... (N/"),
    (r"\b0\.(499|500)\d*", "HALF"),
    (r"\s+", " "),
]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Args:
        page: path from the top of the repository.
        heading: of the section (##) that it is in; empty above the first one.
        language: console (commands with $, and what they print), sh, yaml, python, text.
        text: what is between the fences.
        file: name of the file that it stands for, where the line above is one.
    """

    page: str
    heading: str
    language: str
    text: str
    file: str = ""

    @property
    def place(self) -> tuple[str, str, str]:
        return self.page, self.heading, self.language


def every(page: str) -> list[Block]:
    """Return all blocks of a page, in order."""
    found = []
    heading, *sections = re.split(r"^## ", (TOP / page).read_text(), flags=re.MULTILINE)
    for title, section in [("", heading), *((text.partition("\n")[0], text) for text in sections)]:
        for fence in _FENCE.finditer(section):
            file = _FILE.search(section[: fence.start()])
            found.append(Block(page, title, fence[1], fence[2], file[1] if file else ""))
    return found


def snippets(page: str, heading: str, language: str) -> list[str]:
    """Return the blocks of a language under a heading of a page; there has to be one."""
    found = [block.text for block in every(page) if block.place == (page, heading, language)]
    assert found, f"{page}: no {language} under {heading!r}"
    return found


def commands(console: str) -> list[tuple[str, list[str]]]:
    """Return each command of a console, and the lines that it prints."""
    found = []
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        while command.endswith("\\"):
            more, _, printed = printed.partition("\n")
            command = f"{command[:-1]}{more.strip()}"
        found.append((command, printed.splitlines()))
    return found


def missing(documented: list[str], printed: list[str], figures: bool = False) -> str | None:
    """Return the first documented line that was not printed, after those before it; None if all were.

    Args:
        documented: lines; one that ends in ` ...`, or has it within, need only begin and end so; `...` is any lines.
        printed: lines, among which there may be others.
        figures: whether only the form of numbers counts, because they were measured.
    """
    there = iter([_normal(line, figures) for line in printed])
    for line in documented:
        if line.strip() == "...":
            continue
        normal = _normal(line, figures)
        begin, dots, end = normal.partition("...") if " ..." in line else (normal, "", "")
        if not any((one.startswith(begin) and one.endswith(end.strip())) if dots else one == normal for one in there):
            return line
    return None


def _normal(line: str, figures: bool) -> str:
    for pattern, instead in _VARIES:
        line = re.sub(pattern, instead, line)
    return re.sub(r"\d+(\.\d+)?", "N", line).strip() if figures else line.strip()


def manifests(page: str, text: str) -> list[dict]:
    """Return the objects in YAML of a page; fields alone are the spec of a WorkerCluster of the page's engine."""
    return [one if "kind" in one else _cluster(one, page) for one in yaml.safe_load_all(text)]


def _cluster(fields: dict, page: str) -> dict:
    spec = fields["spec"] if fields.keys() == {"spec"} else fields
    (engine,) = {*spec.keys() & {*ENGINES}} or {*ENGINES} & {Path(page).stem} or {"dask"}
    return {
        "apiVersion": "trireme.dev/v1alpha1",
        "kind": "WorkerCluster",
        "metadata": {"name": "numbers"},
        "spec": {"engine": engine, **spec},
    }


def inline(page: str, pattern: str) -> list[str]:
    """Return what is set as code in the text of a page and begins so."""
    text = _FENCE.sub("", (TOP / page).read_text())
    return [code for code in re.findall(r"`([^`\n]+)`", text) if re.match(pattern, code)]


def links(page: str) -> list[str]:
    """Return where a page links to, but for other sites."""
    found = re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", (TOP / page).read_text()))
    return [link for link in found if "://" not in link]


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", (TOP / page).read_text())
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
