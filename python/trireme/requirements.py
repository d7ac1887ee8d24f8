"""Packages that a script needs beside what is installed: put into a folder of their own, once, and found from there.

This file goes along with scripts to pods, where it stands alone, on whatever Python the image has: it uses the standard
library only.
"""

import json
import os
import re
import shutil
import site
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

WANTED = "trireme_requirements.json"
"""Beside this file in a pod: the packages, and pip's variables."""
# As pip takes it; no file, for pods have none of the user's.
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[^\]]*\])?\s*(@\s*https?://\S+|\(?\s*[<>=!~][^;@]*)?\s*(;.*)?", re.ASCII
)
_INSTALLING = "TRIREME_INSTALLING"


class CannotInstall(Exception):
    """Packages can't be installed, and why."""


def is_requirement(text: str) -> bool:
    """Tell whether something names a package, such as `polars>=1`."""
    return _REQUIREMENT.fullmatch(text) is not None


def install(requirements: "list[str]", folder: Path, variables: "dict[str, str] | None" = None) -> Path:
    """Install packages into a folder, with pip or, where there is none, uv.

    What is installed already stays as it is, and counts: the engine must be the same for all that use it.

    Args:
        requirements: as pip takes them.
        folder: is made.
        variables: pip's, such as PIP_INDEX_URL, over those of this process.

    Returns:
        Where Python finds them.

    Raises:
        CannotInstall: pip's last lines.
    """
    from importlib.metadata import distributions

    folder.mkdir(parents=True)
    constraints = folder / "constraints.txt"
    installed = {one.metadata["Name"]: one.version for one in distributions() if one.metadata["Name"]}
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted(installed.items())))
    command = [*_installer(), "--prefix", str(folder), "--constraint", str(constraints), *requirements]
    # To a Python of Spark's, standard output is a protocol.
    done = subprocess.run(
        command,
        env={**os.environ, **(variables or {}), _INSTALLING: "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = "\n".join((done.stderr + done.stdout).strip().splitlines()[-12:])
        raise CannotInstall(
            f"{' '.join(requirements)} can't be installed:\n{said}\n"
            "What is installed already stays as it is: for other versions of that, use an image, or an environment,"
            " of your own"
        )
    return next(iter(sorted(folder.glob("lib*/python*/site-packages"))), folder)


def _installer() -> "list[str]":
    if find_spec("pip"):
        # Isolated: what is on PYTHONPATH is not installed.
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-warn-script-location"]
        return [sys.executable, "-I", "-m", "pip", "install", *quiet]
    uv = shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    raise CannotInstall(f"there is neither pip nor uv in {sys.prefix}: install pip, or use an image with the packages")


def activate() -> None:
    """Have a Python of a pod find the packages: the first installs them, and the others wait for it.

    Ends the process where that fails: what runs without them fails later, and nobody knows why.
    """
    if os.environ.get(_INSTALLING):
        return
    import fcntl

    folder = Path(tempfile.gettempdir()) / "trireme-requirements"
    done = folder / "done"
    try:
        if not done.exists():
            with folder.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not done.exists():
                    # A container that was killed meanwhile has left a part.
                    shutil.rmtree(folder, ignore_errors=True)
                    wanted = json.loads(Path(__file__).with_name(WANTED).read_text())
                    variables = {"PIP_NO_CACHE_DIR": "1", **wanted["variables"]}
                    found = install(wanted["requirements"], folder, variables)
                    done.with_suffix(".new").write_text(str(found))
                    done.with_suffix(".new").rename(done)
        site.addsitedir(done.read_text())
    except (CannotInstall, OSError, ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        # Python goes on after whatever goes wrong in sitecustomize.
        os._exit(1)
