"""`make demo`: the three samples, their results and times."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from trireme_lab import cluster, paths, tools
from trireme_lab.cache import Cache
from trireme_lab.commands import answer, wait_for
from trireme_lab.console import Steps, say
from trireme_lab.problem import Problem

SECONDS = 600


def demo(cache: Cache) -> None:
    """Apply the samples, wait, and print each one's result and the seconds from its creation to its end.

    Raises:
        Problem: a sample failed, or did not end within ten minutes.
    """
    with Steps(cache).quiet("demo") as log:
        kubectl = tools.kubectl(log, cache, cluster.CONTROL_PLANE)
        base = (str(kubectl), f"--context={cluster.CONTEXT}")
        samples = f"--filename={paths.SAMPLES}"
        log.run(*base, "delete", samples, "--ignore-not-found")
        say(f"  kubectl apply -f {paths.SAMPLES.relative_to(paths.TOP)}")
        applied = log.run(*base, "apply", samples, "--output=name").split()
        waiting = [name for name in applied if name.startswith("workerjob")]
        failed: list[str] = []

        def all_ended() -> bool:
            for name in list(waiting):
                text = answer(*base, "get", name, "--output=json", "--request-timeout=5s")
                outcome = ended(json.loads(text)) if text else None
                if outcome:
                    waiting.remove(name)
                    failed.extend([] if outcome.complete else [name])
                    say(f"  {name.partition('/')[2]:<12} {outcome.seconds:6.1f} s  {outcome.text}")
            return not waiting

        wait_for("all samples have ended", all_ended, seconds=SECONDS, every=0.5)
    if failed:
        raise Problem(f"{', '.join(failed)} failed: `kubectl describe {failed[0]}` tells why")


@dataclass(frozen=True)
class Outcome:
    """How a WorkerJob ended: seconds since its creation, and its last line of output or what went wrong."""

    complete: bool
    seconds: float
    text: str


def ended(job: dict[str, Any]) -> Outcome | None:
    """Read a WorkerJob; None while it has neither completed nor failed."""
    status = job.get("status", {})
    for condition in status.get("conditions", []):
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            complete = condition["type"] == "Complete"
            end = status.get("completionTime") if complete else condition["lastTransitionTime"]
            seconds = (_time(end) - _time(job["metadata"]["creationTimestamp"])).total_seconds()
            output = str(status.get("output", "")).strip().splitlines()
            text = (output[-1] if output else "no output") if complete else condition["message"]
            return Outcome(complete, seconds, text)
    return None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
