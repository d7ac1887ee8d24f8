"""What goes wrong between a user and a cluster, and what they are told; nothing is created before it is known."""

import json
import socket

import pytest
from answering import answering, kubeconfig

from trireme.cli.main import run
from trireme.client import cluster as client_cluster
from trireme.client.kube import explained

JOBS = "/apis/trireme.dev/v1alpha1/namespaces/team/workerjobs"
CLUSTERS = "/apis/trireme.dev/v1alpha1/namespaces/team/workerclusters"
MAPS = "/api/v1/namespaces/team/configmaps"


@pytest.fixture
def server(tmp_path):
    with answering(tmp_path) as (answers, config):
        answers.kubeconfig = config
        yield answers


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "job.py"
    path.write_text("print(1)\n")
    return path


@pytest.fixture
def trireme(capsys):
    def call(*words):
        code = run([str(word) for word in words])
        return code, capsys.readouterr().err

    return call


def test_a_shell_completes_names(server, tmp_path, capsys, monkeypatch):
    server.say("GET", CLUSTERS, {"items": [{"metadata": {"name": name}} for name in ("numbers", "sums", "nights")]})
    for words, names in (("trireme ui n", ["nights", "numbers"]), ("trireme top su", ["sums"]), ("trireme ui x", [])):
        monkeypatch.setenv("KUBECONFIG", server.kubeconfig)
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", "2")
        monkeypatch.setenv("_TRIREME_COMPLETE", "bash_complete")
        with pytest.raises(SystemExit):
            run([])
        assert capsys.readouterr().out.split() == [f"plain,{name}" for name in names]


def test_no_kubeconfig(trireme, script, tmp_path):
    code, told = trireme("run", script, "--engine=dask", f"--kubeconfig={tmp_path / 'none'}")
    assert code == 1
    assert told.startswith("error: no cluster: ")
    assert "--kubeconfig or KUBECONFIG, or run here by --local" in told


def test_no_such_context(trireme, script, server):
    code, told = trireme("run", script, "--engine=dask", f"--kubeconfig={server.kubeconfig}", "--context=other")
    assert code == 1
    assert "no cluster: " in told
    assert "other" in told


def test_a_cluster_that_does_not_answer(trireme, script, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        config = kubeconfig(tmp_path, free.getsockname()[1])
    code, told = trireme("run", script, "--engine=dask", f"--kubeconfig={config}")
    assert code == 1
    assert "(context here) does not answer: " in told
    assert "is the cluster up?" in told


def test_expired_credentials(trireme, script, server):
    server.refuse("POST", JOBS, 401, "Unauthorized", "Unauthorized")
    code, told = trireme("run", script, "--engine=dask", f"--kubeconfig={server.kubeconfig}")
    assert code == 1
    assert "refuses the credentials of context here: they may have expired: log in again" in told


@pytest.mark.parametrize(
    ("program", "why"), [("no-such-plugin", "No such file or directory: 'no-such-plugin'"), ("false", "returned 1")]
)
def test_a_credential_plugin_that_fails(trireme, script, server, tmp_path, program, why):
    """Without a word of the package's own, and before anything is asked as nobody."""
    config = json.loads((tmp_path / "kubeconfig").read_text())
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": program, "interactiveMode": "Never"}
    config["users"][0]["user"] = {"exec": plugin}
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    code, told = trireme("run", script, "--engine=dask", f"--kubeconfig={server.kubeconfig}")
    assert code == 1
    assert told.startswith("error: no credentials for context here: ")
    assert told.count("\n") == 1
    assert f"{why}: log in again, or correct what its user has as exec" in told
    assert not server.asked


def test_no_rights_names_verb_and_resource(trireme, script, server):
    message = (
        'workerjobs.trireme.dev is forbidden: User "me" cannot create resource "workerjobs" in API group "trireme.dev"'
    )
    server.refuse("POST", JOBS, 403, message, "Forbidden")
    code, told = trireme("run", script, "--engine=dask", f"--kubeconfig={server.kubeconfig}")
    assert code == 1
    assert "no right to create workerjobs in namespace team: ask for a Role with that verb and resource" in told


def test_no_crds(trireme, script, server):
    code, told = trireme("run", script, "--engine=dask", f"--kubeconfig={server.kubeconfig}")
    assert code == 1
    assert "this cluster knows no workerjobs: install Trireme there" in told


def test_older_crds(trireme, script, server):
    message = (
        'WorkerJob in version "v1alpha1" cannot be handled: strict decoding error: unknown field "spec.driver.code"'
    )
    server.refuse("POST", JOBS, 400, message, "BadRequest")
    code, told = trireme("run", script, "--engine=dask", f"--kubeconfig={server.kubeconfig}")
    assert code == 1
    assert "unknown field" in told
    assert "newer than the cluster's Trireme: upgrade that" in told


def test_no_such_namespace(trireme, script, server):
    server.refuse("POST", JOBS, 404, 'namespaces "team" not found', "NotFound")
    code, told = trireme("run", script, "--engine=dask", f"--kubeconfig={server.kubeconfig}")
    assert code == 1
    assert told == "error: there is no namespace team: create it, or name another by --namespace\n"


def test_a_name_that_is_taken(trireme, script, server):
    server.refuse("POST", JOBS, 409, 'workerjobs.trireme.dev "mean" already exists', "AlreadyExists")
    code, told = trireme("run", script, "--engine=dask", "--name=mean", f"--kubeconfig={server.kubeconfig}")
    assert code == 1
    assert "job mean is there already: delete it, or choose another name by --name" in told


def test_a_cluster_to_borrow_that_is_not_there(trireme, script, server):
    server.refuse("GET", f"{CLUSTERS}/numbers", 404, "not found", "NotFound")
    code, told = trireme("run", script, "--cluster=numbers", f"--kubeconfig={server.kubeconfig}")
    assert code == 1
    assert "there is no WorkerCluster numbers in namespace team" in told
    assert not [asked for asked in server.asked if asked[0] == "POST"]


def test_files_that_are_refused_take_the_job_with_them(trireme, script, server):
    server.say("POST", JOBS, lambda _, sent: {**sent, "metadata": {**sent["metadata"], "uid": "1"}})
    message = 'configmaps is forbidden: User "me" cannot create resource "configmaps"'
    server.refuse("POST", MAPS, 403, message, "Forbidden")
    server.say("DELETE", f"{JOBS}/mean", {})
    code, told = trireme("run", script, "--engine=dask", "--name=mean", f"--kubeconfig={server.kubeconfig}")
    assert code == 1
    assert "no right to create configmaps" in told
    assert server.asked[-1][:2] == ("DELETE", f"{JOBS}/mean")


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        (None, ["--engine=dask"], "job.py: there is no such file"),
        ("x = (\n", ["--engine=dask"], "job.py:1:5: '(' was never closed"),
        ("print(1)", ["--engine=dask", "--workers=8..2"], "--workers: '8..2' is neither a number"),
        ("print(1)", ["--engine=dask", "--workers=0..0"], "--workers: '0..0' is neither a number"),
        ("print(1)", [], "--engine is missing"),
        ("print(1)", ["--engine=celery"], "--app is missing"),
        ("print(1)", ["--engine=dask", "--app=tasks"], "--app is for celery only"),
        ("print(1)", ["--cluster=numbers", "--workers=3"], "--workers is for a cluster of the job's own"),
        ("print(1)", ["--engine=dask", "--env=A"], "--env: 'A' is not of the form NAME=VALUE"),
        ("print(1)", ["--engine=dask", "--file=gone.csv"], "gone.csv: No such file or directory"),
        ("import lost\n", ["--engine=dask"], "lost.py: invalid syntax"),
        ("print(1)", ["--engine=dask", "--requirement=-e ."], "--requirement: '-e .' names no package, such as"),
        ("print(1)", ["--cluster=numbers", "--requirement=polars"], "give that cluster an image that has the packages"),
        ("print(1)", ["--engine=dask", "--labels=a"], "--labels: 'a' is not of the form KEY=VALUE"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_asked(trireme, server, tmp_path, text, words, message):
    if text is not None:
        (tmp_path / "job.py").write_text(text)
    (tmp_path / "lost.py").write_text("1 +\n")
    code, told = trireme("run", tmp_path / "job.py", *words, f"--kubeconfig={server.kubeconfig}")
    assert code in (1, 2)
    assert message in told
    assert not server.asked


def test_too_much_goes_along(trireme, script, server, tmp_path):
    (tmp_path / "data.csv").write_bytes(b"x" * 1_100_000)
    words = ("run", script, "--engine=dask", "--file", tmp_path / "data.csv", f"--kubeconfig={server.kubeconfig}")
    code, told = trireme(*words)
    assert code == 1
    assert "are 1.1 MB, the most of it data.csv, and 1 MB fits into a ConfigMap: put code into an image" in told
    assert not server.asked


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "job.yaml:2:1: not YAML"),
        ("metadata: {name: a}", "document 1 has no kind"),
        ("---\nkind: WorkerJob\nmetadata: null", "document 1: metadata must be a map"),
        ("---\n---\nkind: []\nmetadata: {name: a}", "document 2: kind must be text"),
        ("kind: WorkerJob\nmetadata: {name: 12}", "document 1: metadata.name must be text: quote it"),
        ("kind: WorkerJob\nmetadata: {name: ''}", "document 1: metadata.name: "),
        ("kind: WorkerJob\nmetadata: {name: a, namespace: []}", "document 1: metadata.namespace must be text"),
        ("kind: WorkerJob\nmetadata: {name: a, annotations: []}", "document 1: metadata.annotations must be a map"),
        ("- a", "document 1 must be a map"),
        ("a: &a [b, b]\n" + "".join(f"---\na: &a {['b'] * 1000}\n" for _ in range(110)), "more than 100000 values"),
        ("a: '" + "x" * 5_000_000 + "'", "too large"),
        ("kind: Pod\nmetadata: {name: a}", "document 1: Pod is none of ConfigMap, Secret, WorkerCluster, WorkerJob"),
        ("kind: ConfigMap\nmetadata: {name: a}", "there is no WorkerJob in it"),
        ("kind: WorkerJob\nmetadata: {name: a, namespace: x}", "is for namespace x, not for team: say so by"),
    ],
)
def test_a_manifest_that_is_none(trireme, server, tmp_path, text, message):
    (tmp_path / "job.yaml").write_text(text)
    words = ("run", "-f", tmp_path / "job.yaml", "--namespace=team", f"--kubeconfig={server.kubeconfig}")
    code, told = trireme(*words)
    assert code == 1
    assert message in told
    assert not server.asked


@pytest.mark.parametrize(
    ("cluster", "driver", "message"),
    [
        ("engine: dask", "null", "spec.driver must be a map"),
        ("engine: dask", "{script: '', env: [{value: a}]}", "spec.driver.env[0] has no name"),
        ("engine: dask", "{script: '', env: [{name: A, value: 1}]}", "spec.driver.env[0].value must be text"),
        ("engine: dask", "{script: '', args: x}", "spec.driver.args must be a list"),
        ("engine: dask", "{script: '', resources: {limits: null}}", "spec.driver.resources.limits must be a map"),
        ("engine: []", "{script: ''}", "spec.clusterTemplate.spec.engine must be text"),
        ("engine: dask, replicas: many", "{script: ''}", "spec.replicas must be a whole number"),
        ("engine: dask, autoscaling: {}", "{script: ''}", "spec.autoscaling has no maxReplicas"),
        ("engine: celery, celery: {app: 2}", "{script: ''}", "spec.celery.app must be text"),
        ("engine: dask, resources: {limits: {memory: 9e999}}", "{script: ''}", "resources.limits.memory: "),
        ("engine: dask", "{code: {configMap: code}}", "ConfigMap code: main.py is no base64"),
    ],
)
def test_a_manifest_of_a_wrong_shape_is_refused_here(trireme, tmp_path, cluster, driver, message):
    job = (
        f"kind: WorkerJob\nmetadata: {{name: a}}\nspec: {{clusterTemplate: {{spec: {{{cluster}}}}}, driver: {driver}}}"
    )
    code = "---\nkind: ConfigMap\nmetadata: {name: code}\nbinaryData: {main.py: a}\n"
    (tmp_path / "job.yaml").write_text(f"{job}\n{code}")
    exit_code, told = trireme("run", "--local", "-f", tmp_path / "job.yaml")
    assert exit_code == 1
    assert message in told


def test_files_of_a_manifest_stay_in_their_folder(trireme, tmp_path):
    text = "kind: ConfigMap\nmetadata: {name: a}\ndata: {%s: ''}"
    for name in ("../a", "..", ".", "a/b", '"a\\n"'):
        (tmp_path / "job.yaml").write_text(text % name)
        code, told = trireme("run", "--local", "-f", tmp_path / "job.yaml")
        assert code == 1
        assert "document 1: data: " in told


def test_a_date_in_a_manifest_is_text(server, tmp_path, capsys):
    text = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {a: 2026-13-45, b: 2026-01-01}\n"
    job = "---\nkind: WorkerJob\napiVersion: trireme.dev/v1alpha1\nmetadata: {name: b}\n"
    (tmp_path / "job.yaml").write_text(text + job)
    words = ["run", "-f", str(tmp_path / "job.yaml"), "--dry-run=client", "--output=json"]
    assert run([*words, f"--kubeconfig={server.kubeconfig}"]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["data"] == {"a": "2026-13-45", "b": "2026-01-01"}


@pytest.mark.parametrize(
    ("code", "path", "method", "message"),
    [
        (403, "/api/v1/namespaces/team/pods", "GET", "no right to list pods in namespace team"),
        (403, "/api/v1/namespaces/team/pods/a/log", "GET", "no right to get pods/log in namespace team"),
        (403, "/apis/trireme.dev/v1alpha1/namespaces/team/workerjobs/a", "DELETE", "no right to delete workerjobs"),
    ],
)
def test_verbs_and_resources(code, path, method, message):
    body = '{"reason": "Forbidden", "message": "User \\"me\\" cannot do that"}'
    assert str(explained(code, body, method, path, "context here")).startswith(message)


@pytest.mark.parametrize(
    "content",
    ["{", "a: [", "- a", "contexts: 3", "\x00", "kind: Config\ncontexts: [{name: here}]\ncurrent-context: here", ""],
)
def test_a_kubeconfig_that_is_none(trireme, script, tmp_path, content):
    (tmp_path / "broken").write_text(content)
    code, told = trireme("run", script, "--engine=dask", f"--kubeconfig={tmp_path / 'broken'}")
    assert code == 1
    assert told.startswith("error: no cluster: ")


def test_a_kubeconfig_that_is_no_text(trireme, script, tmp_path):
    (tmp_path / "broken").write_bytes(b"\xff\xfe\xfd")
    code, told = trireme("run", script, "--engine=dask", f"--kubeconfig={tmp_path / 'broken'}")
    assert code == 1
    assert "the kubeconfig can't be read: " in told
    assert "correct it, or name another by --kubeconfig" in told


def test_a_cluster_that_does_not_become_ready(trireme, server, monkeypatch):
    monkeypatch.setattr(client_cluster.Cluster.wait, "__defaults__", (0.0,))
    server.say("GET", f"{CLUSTERS}/sums", {"metadata": {"name": "sums"}, "spec": {"engine": "dask"}})
    for name in ("connect", "shell"):
        code, told = trireme(name, "sums", f"--kubeconfig={server.kubeconfig}")
        assert code == 1
        assert told == "error: cluster sums is not ready after 0 s: no operator has looked at it\n"
