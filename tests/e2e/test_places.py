"""The client where people work: in a pod of the cluster with a Role of its own, and in a notebook."""

import json
import subprocess

import pytest
from reader import kubeconfig

from on_cluster import CONTEXT, TOP, namespace, run, until
from pages import manifests, snippets

PAGE = "docs/quickstart.md"
SMALL = {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "50m"}}
JVM = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "50m"}}
TASKS = "from celery import Celery\napp = Celery('tasks')\n\n@app.task\ndef add(x, y):\n    return x + y\n"
SPECS = {
    "spark": {"resources": JVM, "spark": {"master": {"resources": SMALL}}},
    "celery": {
        "resources": SMALL,
        "code": {"configMap": "tasks"},
        "celery": {"app": "tasks", "broker": {"resources": SMALL}},
    },
}
USES = {
    "spark": """
    connected = [sys.executable, "-m", "trireme", "connect", "spark", "--", sys.executable, "-c"]
    script = "from pyspark.sql import SparkSession; print(SparkSession.builder.getOrCreate().range(5).count())"
    subprocess.run([*connected, script], check=True)
    print(cluster.spark().range(5).count())
""",
    "celery": """
    connected = [sys.executable, "-m", "trireme", "connect", "celery", "--", sys.executable, "-c"]
    script = "from celery import Celery; print(Celery().send_task('tasks.add', (2, 3)).get(timeout=60))"
    subprocess.run([*connected, script], check=True)
    print(cluster.celery().send_task("tasks.add", (2, 3)).get(timeout=60))
""",
}
# It is entered before workers are there, whose start is not what the time of a task is for.
WORKER = """
    while not cluster.refresh().item.get("status", {}).get("readyReplicas"):
        time.sleep(0.5)  # between two looks
"""
UV = TOP / "lab" / "uv.sh"
# Unpacks an archive that comes on standard input.
UNPACK = "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('/tmp/lib', filter='data')"
NOTEBOOK = """
import json, sys
import nbformat
from nbclient import NotebookClient

cells = [nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, timeout=240).execute()
print(json.dumps([[one.get("data") or one.get("text") for one in cell["outputs"]] for cell in notebook.cells]))
"""


@pytest.fixture(scope="module")
def user():
    """Lend a namespace with the user of the page."""
    with namespace("in-a-pod", restricted=True) as kubectl:
        (block,) = snippets(PAGE, "In a pod", "yaml")
        kubectl.apply(*manifests(PAGE, block))
        kubectl("create", "configmap", "tasks", f"--from-literal=tasks.py={TASKS}")
        yield kubectl


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Return an archive of the package and what it needs, for the Python of the images."""
    folder = tmp_path_factory.mktemp("packages")
    words = ("pip", "install", "--quiet", "--python-version=3.13", f"--target={folder / 'lib'}", TOP / "python")
    run(UV, *words)
    run("tar", "--create", f"--file={folder / 'lib.tar'}", f"--directory={folder / 'lib'}", ".")
    return folder / "lib.tar"


@pytest.fixture
def python(user, packages):
    """Run Python in a pod with an engine's image, as the page's user."""

    def call(engine, *words):
        restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        container = {
            "name": "notebook",
            "image": f"trireme/{engine}:dev",
            "command": ["sleep", "600"],
            "env": [{"name": "PYTHONPATH", "value": "/tmp/lib"}],
            "workingDir": "/tmp",
            "securityContext": restricted,
        }
        spec = {
            "serviceAccountName": "notebook",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"notebook-{engine}"}, "spec": spec}
        if f"pod/notebook-{engine}" not in user("get", "pods", "--output=name").split():
            user.apply(pod)
            user.wait(f"pod/notebook-{engine}", "condition=Ready")
            inside = ("exec", "-i", f"notebook-{engine}", "--", "python", "-c", UNPACK)
            command = ("kubectl", f"--context={CONTEXT}", f"--namespace={user.namespace}", *inside)
            with packages.open("rb") as archive:
                subprocess.run(command, stdin=archive, check=True, timeout=120)
        return user("exec", f"notebook-{engine}", "--", "python", *words)

    return call


def test_what_the_quick_start_says_in_a_pod(user, python):
    """As it stands there, with the versions checked, and no right in the namespace is missing."""
    found = json.loads(python("dask", "-m", "trireme", "doctor", "--output=json"))
    assert [one for one in found if f"in namespace {user.namespace}" in one["what"]] == []
    code = "\n".join(snippets(PAGE, "From Python", "python"))
    code = "open('script.py', 'w').write('import sys; print(\"result\", *sys.argv[1:])')\n" + code
    assert python("dask", "-c", code) == "6\nresult 10\n"
    until(lambda: not user("get", "wc", "--output=name").strip())


@pytest.mark.parametrize("engine", USES)
def test_an_engine_in_a_pod(python, engine):
    """By the client, and by a program that finds it by its environment."""
    code = f"import json, subprocess, sys, time, trireme\nspec = json.loads({json.dumps(SPECS[engine])!r})\n"
    code += f"with trireme.Cluster({engine!r}, engine={engine!r}, workers=1, spec=spec) as cluster:{WORKER}"
    code += USES[engine]
    assert python(engine, "-c", code).splitlines()[-2:] == ["5", "5"]


def test_a_notebook(kubectl, tmp_path):
    """Its kernel has an event loop that runs; the objects are shown as they stand."""
    (tmp_path / "config").write_text(json.dumps(kubeconfig(kubectl)))
    (tmp_path / "script.py").write_text("print('done')\n")
    spec = {"resources": SMALL, "dask": {"scheduler": {"resources": SMALL}}}
    cells = [
        f"import os, trireme\nos.environ['KUBECONFIG'] = {str(tmp_path / 'config')!r}",
        f"cluster = trireme.Cluster('numbers', engine='dask', workers=1, spec={spec!r}).create()",
        "client = cluster.dask(check_versions=False)\nclient.submit(sum, [1, 2, 3]).result()",
        "import subprocess\n"
        "ready = '--for=jsonpath={.status.readyReplicas}=1'\n"
        "subprocess.run(['kubectl', 'wait', 'wc/numbers', ready, '--timeout=60s'], check=True, capture_output=True)",
        "cluster",
        f"job = trireme.submit({str(tmp_path / 'script.py')!r}, cluster='numbers')\njob.result()",
        "job",
        "client.close()\ncluster.close()",
    ]
    with_jupyter = (UV, "run", "--frozen", "--quiet", "--with=nbclient", "--with=ipykernel", "python")
    done = run(*with_jupyter, "-c", NOTEBOOK, stdin=json.dumps(cells))
    *_, added, _, shown, result, job, _ = json.loads(done.stdout.splitlines()[-1])
    assert added[-1]["text/plain"] == "6"
    assert "<th" in shown[0]["text/html"]
    assert "1 of 1 ready" in shown[0]["text/html"]
    assert result[-1]["text/plain"] == "'done'"
    assert "Complete" in job[0]["text/html"]
    until(lambda: not kubectl("get", "wc", "--output=name").strip())
