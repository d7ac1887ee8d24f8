"""What the tests on a cluster share: commands, kubectl on the cluster of `make cluster-up`, waiting."""

import json
import select
import subprocess
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
CONTEXT = "kind-trireme"


def run(*command, stdin=None, check=True, seconds=300):
    """Run a command; a failure shows all that it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=TOP,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done


@contextmanager
def started(*command, **more):
    """Lend a process that is started, with a pipe from its stdout; it ends with this."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def first_line(process, seconds=120):
    """Return the first line that a process prints."""
    if not select.select([process.stdout], [], [], seconds)[0]:
        raise AssertionError(f"{process.args} printed nothing in {seconds} s")
    return process.stdout.readline()


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, namespace):
        self.namespace = namespace

    def __call__(self, *arguments, stdin=None, check=True, seconds=300):
        command = ("kubectl", f"--context={CONTEXT}", f"--namespace={self.namespace}", *arguments)
        return run(*command, stdin=stdin, check=check, seconds=seconds).stdout

    def apply(self, *objects):
        # One after the other, as documents of one file; a List would be checked by kubectl in words of its own.
        self("apply", "--filename=-", stdin="\n".join(map(json.dumps, objects)))

    def get(self, *arguments):
        return json.loads(self("get", *arguments, "--output=json"))

    def wait(self, what, condition, seconds=120):
        """Wait for a condition; a failure shows how the object stands, and a job's also what its driver printed."""
        try:
            self("wait", what, f"--for={condition}", f"--timeout={seconds}s", seconds=seconds + 10)
        except AssertionError as error:
            told = self("describe", what, check=False)
            kind, _, name = what.partition("/")
            if kind == "wj":
                told += self("logs", f"job/{name}-driver", "--tail=60", check=False)
            raise AssertionError(f"{error}\n{told}") from error

    def told(self, what, reason, type_="Ready", words=(), seconds=60):
        """Wait until a condition has a reason, and words in its message, and return the message as it was read then."""
        found = {}

        def question():
            found.update(condition(self.get(what), type_))
            return found.get("reason") == reason and all(word in found["message"] for word in words)

        try:
            until(question, seconds)
        except AssertionError as error:
            raise AssertionError(f"{type_} of {what}: {found}") from error
        return found["message"]


def condition(item, type_):
    """Return an object's condition of a type, or an empty one."""
    found = [one for one in item.get("status", {}).get("conditions", []) if one["type"] == type_]
    return found[0] if found else {}


@contextmanager
def namespace(name, restricted=False):
    """Lend kubectl in a new namespace whose name begins so; it is deleted in the end, which nobody waits for.

    Args:
        name: at most 56 characters.
        restricted: whether Pod Security refuses pods that are not.
    """
    kubectl = Kubectl(f"{name}-{uuid.uuid4().hex[:6]}")
    kubectl("create", "namespace", kubectl.namespace)
    try:
        if restricted:
            kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
        yield kubectl
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false", "--ignore-not-found")


def until(question, seconds=60):
    """Ask until the answer is true, and return it; the last answer is in the failure.

    A question is most often a process, and waits are long: it is asked less often the longer that takes.
    """
    start = time.monotonic()
    while not (found := question()):
        waited = time.monotonic() - start
        if waited > seconds:
            raise AssertionError(f"still {found!r} after {seconds} s")
        subprocess.run(["sleep", str(min(1, 0.2 + waited / 20))], check=True)
    return found
