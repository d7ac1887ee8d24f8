"""What the measurements share."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
UV = str(TOP / "lab" / "uv.sh")
CACHE = Path(
    os.environ.get("TRIREME_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trireme"
)


def run(*command: str, env: dict[str, str] | None = None, check: bool = True) -> str:
    """Run a command in the checkout and return what it printed."""
    print("+", *command, flush=True)
    done = subprocess.run(
        command, cwd=TOP, env={**os.environ, **(env or {})}, text=True, stdout=subprocess.PIPE, check=check
    )
    return done.stdout


def written_by(command: str) -> str:
    """Say by what results are written, when, of which commit, on what machine; ask before what is measured begins."""
    commit = run("git", "rev-parse", "--short", "HEAD").strip()
    return f"Written by `{command}` on {datetime.now(UTC):%Y-%m-%d}, commit {commit}; {machine()}"


def machine() -> str:
    """Describe the machine in a line."""
    model = re.search(r"(?m)^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = model[1] if model else platform.machine()
    return f"{os.cpu_count()} cores ({name}), {memory:.0f} GiB, {platform.system()} {platform.release()}"
