"""The user's side on a cluster: scripts, logs, ways to an engine, what Ctrl-C leaves, what the doctor finds."""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest
from reader import Reader, kubeconfig

import trireme
from on_cluster import CONTEXT, first_line, namespace, run, started, until
from pages import snippets

SMALL = {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "50m"}}
TASKS = """
from celery import Celery

import helper

app = Celery("tasks")


@app.task
def add(x, y):
    return helper.added(x, y)
"""


@pytest.fixture(scope="module")
def kubectl():
    with namespace("client") as kubectl:
        yield kubectl


@pytest.fixture(scope="module")
def where(kubectl):
    return {"context": CONTEXT, "namespace": kubectl.namespace}


def has_worker(cluster):
    """Wait for the first: a cluster is entered before."""
    until(lambda: cluster.refresh().item.get("status", {}).get("readyReplicas"), seconds=120)


@pytest.fixture(scope="module")
def numbers(where):
    """A Dask cluster for all tests, made by the client and deleted by it."""
    spec = {"resources": SMALL, "dask": {"scheduler": {"resources": SMALL}}}
    with trireme.Cluster("numbers", engine="dask", workers=1, spec=spec, **where) as cluster:
        has_worker(cluster)
        yield cluster
    # Deleted by now; what is deleted may take a moment to go.
    until(lambda: cluster.kube.find("workerclusters", "numbers") is None)


def command(kubectl, name, *words):
    return [sys.executable, "-m", "trireme", name, f"--context={CONTEXT}", f"--namespace={kubectl.namespace}", *words]


@pytest.fixture
def cli(kubectl):
    """Run the command line in the namespace of these tests."""

    def call(name, *words, check=True):
        return run(*command(kubectl, name, *words), check=check)

    return call


def own(kubectl):
    return kubectl("get", "wj,cm,jobs", "--output=name", "--selector=trireme.dev/job").split()


def test_a_script_with_its_modules_on_a_borrowed_cluster(cli, kubectl, numbers, tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "text.py").write_text("WORD = 'sum'\n")
    (tmp_path / "job.py").write_text(
        "import sys\nfrom distributed import Client\nfrom pack.text import WORD\nwith Client() as client:\n"
        "    print(WORD, client.submit(sum, [int(word) for word in sys.argv[1:]]).result())\nsys.exit(5)\n"
    )
    done = cli("run", "--cluster=numbers", str(tmp_path / "job.py"), "--", "40", "2", check=False)
    assert (done.returncode, done.stdout) == (5, "sum 42\n"), done.stderr
    assert re.search(r"job-\w+: (Starting|Running), 1/1 workers", done.stderr)
    # It stays for its logs; what it brought goes with it.
    (name,) = [one for one in own(kubectl) if one.startswith("configmap") and one.endswith("-files")]
    kubectl("delete", "wj", "--all")
    until(lambda: name not in own(kubectl))


@pytest.fixture(scope="module")
def oars(kubectl):
    """A package index with one package; the variables by which pip finds it."""
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "index"},
            "binaryData": {"oars-1.0-py3-none-any.whl": base64.b64encode(wheel()).decode()},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "index"},
            "spec": {"selector": {"app": "index"}, "ports": [{"port": 8000}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "index", "labels": {"app": "index"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "index",
                        "image": "trireme/celery:dev",
                        "command": ["python", "-m", "http.server", "--directory=/index", "8000"],
                        "volumeMounts": [{"name": "index", "mountPath": "/index"}],
                        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
                        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
                    }
                ],
                "volumes": [{"name": "index", "configMap": {"name": "index"}}],
            },
        },
    )
    kubectl.wait("pod/index", "condition=Ready")
    yield (
        "--requirement=oars>=1",
        "--env=PIP_NO_INDEX=1",
        "--env=PIP_FIND_LINKS=http://index:8000/",
        "--env=PIP_TRUSTED_HOST=index",
    )
    kubectl("delete", "pod/index", "service/index", "configmap/index", "--wait=false")


def wheel():
    """A package that says a word."""
    about = "oars-1.0.dist-info"
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        archive.writestr("oars.py", "WORD = 'rowed'\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: oars\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return found.getvalue()


DASK = """
import oars
from distributed import Client
from helper import added
with Client() as client:
    print(oars.WORD, client.submit(added, 4, 4).result(), client.run_on_scheduler(added, 0, 0))
"""
SPARK = """
import oars
from pyspark.sql import SparkSession
from helper import added
spark = SparkSession.builder.getOrCreate()
many = spark.sparkContext.parallelize(range(8), 8)
print(oars.WORD, *many.map(lambda _: added(4, 4)).distinct().collect())
spark.stop()
"""


@pytest.mark.parametrize(
    ("engine", "memory", "script", "printed"),
    [
        ("dask", "512Mi", DASK, "rowed rowed 8 rowed 0"),
        ("spark", "1Gi", SPARK, "rowed rowed 8"),
    ],
)
def test_every_python_of_a_cluster_gets_the_packages(cli, kubectl, oars, tmp_path, engine, memory, script, printed):
    """Driver, workers, and Dask's scheduler."""
    (tmp_path / "helper.py").write_text("import oars\n\ndef added(x, y):\n    return f'{oars.WORD} {x + y}'\n")
    (tmp_path / "job.py").write_text(script)
    words = (f"--engine={engine}", "--workers=1", "--cpu=300m", f"--memory={memory}", "--driver-memory=1Gi")
    done = cli("run", f"--name=by-{engine}", *words, *oars, str(tmp_path / "job.py"))
    # Spark's driver logs, too; Dask's client may, as it ends, which is not of the output.
    assert printed in done.stdout.splitlines(), (done.stdout, done.stderr)
    assert kubectl.get(f"wj/by-{engine}")["status"]["output"].splitlines()[-1] == printed
    kubectl("delete", "wj", f"by-{engine}")


def test_a_script_with_a_cluster_of_its_own_and_a_package_that_its_image_lacks(cli, kubectl, oars, tmp_path):
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "helper.py").write_text("import oars\n\ndef added(x, y):\n    return f'{oars.WORD} {x + y}'\n")
    (tmp_path / "job.py").write_text(
        "import oars\nfrom tasks import add, app\nwhile not app.control.ping(timeout=1):\n    pass\n"
        "print(oars.WORD, add.delay(4, 4).get(timeout=60))\n"
    )
    words = ("--engine=celery", "--app=tasks", "--workers=1", "--cpu=300m", "--memory=512Mi", "--driver-memory=256Mi")
    done = cli("run", "--name=sums", "--labels=team=a", "--worker-logs", *words, *oars, str(tmp_path / "job.py"))
    assert done.stdout == "rowed rowed 8\n"
    assert re.search(r"^sums\S*-worker-\S+ .*tasks\.add", done.stderr, re.MULTILINE), done.stderr
    logs = cli("logs", "--selector=team=a", "--tail=1").stdout
    assert re.search(r"^sums-driver-\w+ rowed rowed 8$", logs, re.MULTILINE)
    kubectl("delete", "wj", "sums")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_term_leave_nothing(kubectl, numbers, tmp_path, number, code):
    (tmp_path / "job.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    words = command(kubectl, "run", "--cluster=numbers", str(tmp_path / "job.py"))
    with started(*words, stdin=subprocess.DEVNULL) as process:
        assert first_line(process) == "begun\n"
        process.send_signal(number)
        assert process.wait(30) == code
    until(lambda: not own(kubectl))


def test_submitted_from_python(kubectl, numbers, where, tmp_path):
    (tmp_path / "job.py").write_text("import sys\nprint('one', *sys.argv[1:])\n")
    job = trireme.submit(tmp_path / "job.py", "two", cluster="numbers", **where)
    assert job.result(120).strip() == "one two"
    assert list(job.logs()) == ["one two"]
    assert "one two" in job._repr_html_()
    assert job.cancel()
    until(lambda: not own(kubectl))
    assert not job.cancel()


def test_an_engine_is_found_from_outside(cli, numbers):
    client = numbers.dask(check_versions=False)
    assert client.submit(sum, [1, 2, 3]).result(timeout=30) == 6
    code = "import os; from distributed import Client; print(len(Client().scheduler_info()['workers']))"
    assert cli("connect", "numbers", "--", sys.executable, "-c", code).stdout == "1\n"
    here, there = f"python 3.{sys.version_info.minor}.", client.get_versions()["scheduler"]["packages"]["python"]
    if not there.startswith(here.removeprefix("python ")):
        with pytest.raises(trireme.TriremeError, match=rf"{here}.* here, {re.escape(there)} in the cluster"):
            numbers.dask()


def test_a_prompt(kubectl, numbers):
    words = command(kubectl, "shell", "numbers")
    done = run(*words, stdin="print('sum', client.submit(sum, [1, 2, 3]).result())\n")
    assert "sum 6" in done.stdout
    assert "Connected to <Cluster numbers: dask" in done.stderr


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_tasks_are_sent_from_outside(kubectl, where, broker):
    files = {
        "tasks.py": "from celery import Celery\napp = Celery()\n@app.task(name='add')\ndef add(x, y): return x + y\n"
    }
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tasks"}, "data": files})
    celery = {"app": "tasks", "broker": {"type": broker}}
    spec = {"resources": SMALL, "code": {"configMap": "tasks"}, "celery": celery}
    with trireme.Cluster(f"by-{broker}", engine="celery", workers=1, spec=spec, **where) as cluster:
        has_worker(cluster)
        assert cluster.celery().send_task("add", (4, 4)).get(timeout=60) == 8
    until(lambda: not kubectl("get", "wc", f"by-{broker}", "--ignore-not-found"))


def test_a_dashboard_outlives_its_pod(kubectl, numbers):
    words = command(kubectl, "ui", "numbers", "--no-browser")

    def answers(url):
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return answer.status == 200
        except OSError:
            return False

    with started(*words) as process:
        try:
            url = first_line(process).strip().replace("/status", "/health")
            until(lambda: answers(url))
            pods = ("pods", "--selector=app.kubernetes.io/component=scheduler")
            kubectl("delete", *pods, "--grace-period=1")
            kubectl("rollout", "status", "deployment/numbers-scheduler", "--timeout=120s")
            until(lambda: answers(url))
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0


def test_what_clusters_do(cli, numbers):
    lines = cli("top").stdout.splitlines()
    assert re.match(r"NAME +ENGINE +WORKERS +CPU +MEMORY +WORK +STATUS$", lines[0])
    assert re.match(r"numbers +dask +[01]/1 ", lines[1])
    assert json.loads(cli("top", "numbers", "--output=json").stdout)[0]["engine"] == "dask"


def test_the_doctor_finds_what_is_wrong(cli, kubectl):
    well = cli("doctor", check=False)
    assert "no right" not in well.stdout
    fault = {
        "apiVersion": "trireme.dev/v1alpha1",
        "kind": "WorkerCluster",
        "metadata": {"name": "faulty"},
        "spec": {"engine": "dask", "image": "no-such-image:1", "resources": SMALL},
    }
    kubectl.apply(fault)
    try:

        def told():
            done = cli("doctor", "faulty", check=False)
            # Until somebody has looked at it, that is what is wrong.
            return done.returncode == 1 and "Pull" in done.stdout and done.stdout

        found = until(told)
        assert re.search(r"error: WorkerCluster faulty: (ImagePullBackOff|ErrImagePull|ErrImageNeverPull): ", found), (
            found
        )
        assert "fix: correct the image's name, or give access to it by imagePullSecrets" in found
        assert cli("doctor", "nothing", check=False).returncode == 1
    finally:
        kubectl("delete", "wc", "faulty")


@pytest.fixture
def reader(kubectl, tmp_path):
    """Have somebody do what the quick start says, with a script of their own."""
    reader = Reader(tmp_path, kubectl)
    reader.write("script.py", "import sys\nprint('result', *sys.argv[1:])\n")
    return reader


@pytest.mark.usefixtures("numbers")
def test_the_quick_start(reader):
    """Its commands as they stand there."""
    (block,) = snippets("docs/quickstart.md", "On a cluster", "sh")
    assert re.fullmatch(r"result 10\nresult\n0\.(499|500)\d*\n", reader.does(block))


@pytest.mark.usefixtures("numbers")
def test_the_quick_start_from_python(reader):
    """As it stands there, but beside the cluster of these tests, and whatever Python this is."""
    code = "\n".join(snippets("docs/quickstart.md", "From Python", "python"))
    code = code.replace('"numbers"', '"snippet"').replace(".dask()", ".dask(check_versions=False)")
    reader.write("snippet.py", code)
    assert reader.does("python snippet.py") == "6\nresult 10\n"


def test_no_rights_are_named(kubectl, tmp_path):
    """A user with no rights at all."""
    kubectl("create", "serviceaccount", "looker")
    token = kubectl("create", "token", "looker").strip()
    config = kubeconfig(kubectl)
    config["users"][0]["user"] = {"token": token}
    (tmp_path / "config").write_text(json.dumps(config))
    (tmp_path / "job.py").write_text("print(1)\n")
    env = {**os.environ, "KUBECONFIG": str(tmp_path / "config")}
    words = command(kubectl, "run", "--engine=dask", str(tmp_path / "job.py"))
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"no right to create workerjobs in namespace {kubectl.namespace}: ask for a Role" in done.stderr


def test_kubectl_completes(kubectl, numbers, tmp_path):
    """By the command that kubectl looks for beside the plugin's; with the names of what is there."""
    (tmp_path / "config").write_text(json.dumps(kubeconfig(kubectl)))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "KUBECONFIG": str(tmp_path / "config"), "PATH": path}
    words = ["kubectl", "__complete", "trireme", "ui", "num"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["numbers", ":4"], done.stderr
