"""Measure the autoscaler on the cluster of `make cluster-up`, beside dask-kubernetes in the same run.

Writes a file of bench/results for each part, and plots: reaction, drains, burst, idle. Some can be named; all of them
by default. Nothing else may use the cluster meanwhile. Plots need matplotlib, which the lock file does not have:

    lab/uv.sh run --frozen --with matplotlib==3.11.2 python bench/autoscale.py
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import burst
import drains
import idle
import reaction
from measuring import written_by
from reconcile import DASK_KUBERNETES, RESULTS
from work import ENGINES

PARTS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "reaction": lambda asked: reaction.reaction(asked.engines, asked.runs, asked.keda, asked.results),
    "drains": lambda asked: drains.drains(asked.engines, asked.scale_downs, asked.evictions, asked.results),
    "burst": lambda asked: burst.burst(asked.engines, asked.tasks, asked.results),
    "idle": lambda asked: idle.idle(asked.clusters),
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="what to measure")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--runs", type=int, default=20, help="reaction: from each size (%(default)s)")
    parser.add_argument("--keda", action="store_true", help="reaction: beside KEDA, which takes half an hour to build")
    parser.add_argument("--scale-downs", type=int, default=100, help="drains: of each engine (%(default)s)")
    parser.add_argument("--evictions", type=int, default=50, help="drains: of each engine (%(default)s)")
    parser.add_argument("--tasks", type=int, default=500, help="burst: of 1 s (%(default)s)")
    parser.add_argument("--clusters", type=int, default=200, help="idle: at most (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to (bench/results)")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    asked.results.mkdir(parents=True, exist_ok=True)
    for part in asked.parts or PARTS:
        written = written_by(f"bench/autoscale.py {part}")
        measured = PARTS[part](asked)
        peer = f"The peer is {DASK_KUBERNETES.replace('==', ' ')}, in the same run on the same cluster."
        note = [
            "",
            f"{written}.",
            *([peer] if part in ("reaction", "burst") and "dask" in asked.engines else []),
        ]
        # The title goes first.
        text = "\n".join([measured[0].removeprefix("#"), *note, *measured[1:]]) + "\n"
        (asked.results / f"{part}.md").write_text(text)
        print(text, flush=True)


if __name__ == "__main__":
    main()
