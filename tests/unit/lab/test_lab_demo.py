"""How a sample's WorkerJob ended."""

from typing import Any

import pytest

from trireme_lab.demo import Outcome, ended


def condition(kind: str, status: str = "True", **more: str) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": "Why", "message": "why", **more}


def job(*conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    created = {"name": "mean", "creationTimestamp": "2026-03-01T23:59:30Z"}
    return {"metadata": created, "status": {"conditions": list(conditions), **status}}


COMPLETE = condition("Complete", lastTransitionTime="2026-03-02T00:01:00Z")
FAILED = condition("Failed", message="exit 1: no", lastTransitionTime="2026-03-02T00:00:10Z")
END = "2026-03-02T00:00:00Z"


@pytest.mark.parametrize(
    ("output", "text"),
    [({"output": "first\n0.5\n\n"}, "0.5"), ({"output": ""}, "no output"), ({}, "no output")],
)
def test_complete(output: dict[str, str], text: str) -> None:
    running = condition("Running", "False")
    assert ended(job(running, COMPLETE, completionTime=END, **output)) == Outcome(True, 30.0, text)


def test_fractions_of_a_second() -> None:
    assert ended(job(COMPLETE, completionTime="2026-03-01T23:59:31.250000Z", output="8")) == Outcome(True, 1.25, "8")


def test_failed() -> None:
    assert ended(job(condition("Complete", "False"), FAILED, output="0.5")) == Outcome(False, 40.0, "exit 1: no")


@pytest.mark.parametrize(
    "running",
    [
        {"metadata": {"creationTimestamp": END}},
        job(),
        job(condition("Running")),
        job(condition("Complete", "False"), condition("Failed", "Unknown"), output="0.5"),
    ],
)
def test_running(running: dict[str, Any]) -> None:
    assert ended(running) is None
