"""A reader of the documentation, who does what it says: in a folder, with a namespace."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from on_cluster import TOP, until
from pages import commands, missing

# What is not to be done twice; anything else is asked again until it says what is written.
_ONCE = re.compile(r"(kubectl (scale|patch|apply|delete|run)|trireme|helm|make) ")


def kubeconfig(kubectl):
    """Return a kubeconfig of kubectl's cluster alone, by which its namespace is the one that is meant."""
    found = json.loads(kubectl("config", "view", "--raw", "--flatten", "--minify", "--output=json"))
    found["contexts"][0]["context"]["namespace"] = kubectl.namespace
    return found


class Reader:
    """Runs commands as they stand.

    Args:
        folder: where; it has the folders of the repository that commands name.
        kubectl: whose namespace commands find by themselves; none for those that need no cluster.
    """

    def __init__(self, folder, kubectl=None):
        self._folder = folder
        # What is installed beside this Python, such as trireme, comes first.
        self._env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        for name in ("charts", "manifests", "python"):
            (folder / name).symlink_to(TOP / name)
        if kubectl:
            (folder / "kubeconfig").write_text(json.dumps(kubeconfig(kubectl)))
            self._env["KUBECONFIG"] = str(folder / "kubeconfig")

    def write(self, name, text):
        (self._folder / name).write_text(text)

    def tries(self, script, seconds=330):
        """Run a script, whatever becomes of it."""
        words = ("bash", "-euc", script)
        options = {"cwd": self._folder, "env": self._env, "capture_output": True, "text": True, "check": False}
        return subprocess.run(words, timeout=seconds, **options)

    def does(self, script, seconds=330):
        """Run a script, which has to end well; return what it printed on standard output."""
        done = self.tries(script, seconds)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def follows(self, console, seconds=60):
        """Run the commands of a console, each of which has to print what is written there."""
        for command, documented in commands(console):
            done = []

            def so(command=command, documented=documented, done=done):
                done[:] = [self.tries(command)]
                return missing(documented, done[0].stdout.splitlines()) is None

            try:
                until(so, seconds=0 if _ONCE.match(command) else seconds)
            except AssertionError:
                lacks = missing(documented, done[0].stdout.splitlines())
                raise AssertionError(
                    f"$ {command}\nhas not printed: {lacks}\n{done[0].stdout}{done[0].stderr}"
                ) from None
