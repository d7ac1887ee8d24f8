"""The charts' Python scripts, which are mounted into any image: they need what the engine itself brings, no more."""

import ast
import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from charting import CHARTS
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENGINES = {"dask": "distributed", "celery": "celery"}
# Of a worker on Redis, which asks for celery[redis].
FOR_REDIS = ("trireme_full", "trireme_priorities")
SCRIPTS = sorted(CHARTS.glob("*/files/*.py"))
# Imports scripts where some modules are not there.
WITHOUT = """
import importlib, json, sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

missing = {*json.loads(sys.argv[2])}
sys.meta_path.insert(0, Nothing())
sys.path.insert(0, sys.argv[1])
for script in sys.argv[3:]:
    importlib.import_module(script)
"""


def brought(package: str, extra: str = "") -> set[str]:
    """Return the modules that come with a package: its own, and those of all that it requires, with an extra."""
    found, ahead = set(), [(package, extra)]
    while ahead:
        one = name, extra = ahead.pop()
        if one in found:
            continue
        found.add(one)
        try:
            needed = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            # For other systems, or another Python.
            continue
        wanted = [one for one in needed if not one.marker or one.marker.evaluate({"extra": extra})]
        ahead += [(one.name, more) for one in wanted for more in ("", *one.extras)]
    names = {canonicalize_name(name) for name, _ in found}
    return {module for module, of in packages_distributions().items() if names & {*map(canonicalize_name, of)}}


def test_what_an_engine_brings() -> None:
    assert {"celery", "kombu", "amqp"} <= brought("celery")
    assert not {"redis", "distributed", "yaml"} & brought("celery")
    assert {"distributed", "dask", "tornado", "yaml"} <= brought("distributed")
    assert not {"redis", "numpy", "bokeh"} & brought("distributed")


@pytest.mark.parametrize(("engine", "extra"), [("dask", ""), ("celery", ""), ("celery", "redis")])
def test_scripts_import_no_more_than_the_engine_brings(engine: str, extra: str) -> None:
    missing = json.dumps(sorted(packages_distributions().keys() - brought(ENGINES[engine], extra)))
    folder = CHARTS / engine / "files"
    scripts = sorted(path.stem for path in folder.glob("*.py") if extra == "redis" or path.stem not in FOR_REDIS)
    assert scripts
    done = subprocess.run(
        [sys.executable, "-B", "-c", WITHOUT, str(folder), missing, *scripts], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_script_is_of_the_oldest_python_that_the_engines_run_on(script: Path) -> None:
    """As of what both require: Python 3.10."""
    tree = ast.parse(script.read_text(), feature_version=(3, 10))
    # One name for two until then.
    caught = [ast.unparse(node.type) for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type]
    assert "TimeoutError" not in caught
