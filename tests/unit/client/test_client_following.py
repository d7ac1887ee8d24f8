"""Jobs are followed to their end across lost connections, and gone after Ctrl-C."""

import json
import re
import signal
import sys
import threading

import pytest
from answering import Answer, BreaksOff, answering

from trireme.cli import logs as cli_logs
from trireme.cli import main, submit, top
from trireme.cli.connection import Place
from trireme.cli.run import Wanted
from trireme.client import cluster as client_cluster
from trireme.client import job as client_job
from trireme.client import logs as client_logs
from trireme.client import making, patience, progress
from trireme.client.cluster import Cluster
from trireme.client.job import Job, JobFailed, create
from trireme.client.job import submit as submit_script
from trireme.client.kube import ConnectionLost, Kube
from trireme.client.logs import follow, stamped
from trireme.errors import TriremeError

JOB = "/apis/trireme.dev/v1alpha1/namespaces/team/workerjobs/mean"
PODS = "/api/v1/namespaces/team/pods"
LOG = f"{PODS}/mean-driver-1/log"


@pytest.fixture
def server(tmp_path):
    with answering(tmp_path) as (answers, config):
        answers.kubeconfig, answers.kube = config, Kube(config)
        yield answers


def pod(phase="Running", **terminated):
    state = {"terminated": terminated} if terminated else {"running": {}}
    return {
        "metadata": {"name": "mean-driver-1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"phase": phase, "containerStatuses": [{"state": state}]},
    }


def job(state, **conditions):
    found = [{"type": name, "status": "True", "reason": name, "message": text} for name, text in conditions.items()]
    return {
        "metadata": {"name": "mean", "uid": "1"},
        "spec": {},
        "status": {"state": state, "conditions": found, "output": "0.5"},
    }


def line(second, text, decimals=""):
    return f"2026-01-01T00:00:{second:02}{decimals}Z {text}\n".encode()


def test_a_log_that_breaks_off_is_read_on_from_there(server):
    server.say("GET", PODS, {"items": [pod()]})
    server.say("GET", f"{PODS}/mean-driver-1", pod("Succeeded"))
    first = line(1, "one", ".5") + line(2, "two", ".25")
    server.say("GET", LOG, [BreaksOff(first), line(2, "two", ".25") + line(2, "three", ".3") + line(3, "four")])
    found = list(follow(server.kube, "mean-driver-1", threading.Event(), "driver"))
    assert found == ["one", "two", "three", "four"]
    asked = [query for _, path, query, _ in server.asked if path == LOG]
    assert "sinceTime" not in asked[0]
    assert asked[1]["sinceTime"] == "2026-01-01T00:00:02Z"


def test_lines_of_one_moment_are_all_read_and_none_twice(server):
    server.say("GET", PODS, {"items": [pod()]})
    server.say("GET", f"{PODS}/mean-driver-1", pod("Succeeded"))
    first = line(1, "one") + line(2, "a") + line(2, "a") + line(1, "late")
    again = line(2, "a") * 3 + line(2, "b") + line(2, "c")
    server.say("GET", LOG, [BreaksOff(first), BreaksOff(again), again + line(3, "end")])
    found = list(follow(server.kube, "mean-driver-1", threading.Event(), "driver"))
    assert found == ["one", "a", "a", "late", "a", "b", "c", "end"]


def test_a_log_in_another_zone_is_read_on_from_its_moment_in_utc(server):
    server.say("GET", f"{PODS}/mean-driver-1", pod("Succeeded"))
    lines = [f"2026-01-01T02:00:0{second}.5+02:00 {second}\n".encode() for second in range(3)]
    server.say("GET", LOG, [BreaksOff(lines[0] + lines[1]), lines[1] + lines[2]])
    assert list(follow(server.kube, "mean-driver-1", threading.Event(), "driver")) == ["0", "1", "2"]
    asked = [query for _, path, query, _ in server.asked if path == LOG]
    assert asked[1]["sinceTime"] == "2026-01-01T00:00:01Z"


def test_lines_without_a_timestamp_hide_no_others(server):
    server.say("GET", f"{PODS}/mean-driver-1", pod("Succeeded"))
    server.say(
        "GET", LOG, [BreaksOff(line(1, "one") + b"unable to read\n"), line(2, "two") + b"2026-13-01T00:00:00Z\n"]
    )
    found = list(follow(server.kube, "mean-driver-1", threading.Event(), "driver"))
    assert found == ["one", "unable to read", "two", "2026-13-01T00:00:00Z"]
    asked = [query for _, path, query, _ in server.asked if path == LOG]
    assert asked[1]["sinceTime"] == "2026-01-01T00:00:01Z"


def test_timestamps_are_in_order_whatever_their_decimals_and_zone():
    stamps = ["00:00:01Z", "00:00:01.05Z", "02:00:01.050000001+02:00", "00:00:01.5Z", "00:00:02Z"]
    moments = [stamped(f"2026-01-01T{stamp} x")[0] for stamp in stamps]
    assert None not in moments
    assert sorted(moments) == moments


def test_a_job_is_followed_to_its_end_with_its_exit_code(server):
    server.say("GET", JOB, [job("WaitingForCluster"), job("Running"), job("Failed", Failed="exit code 3")])
    server.say("GET", PODS, [{"items": []}, {"items": [pod()]}, {"items": [pod("Failed", exitCode=3)]}])
    server.say("GET", LOG, line(1, "hello"))
    server.say("GET", f"{PODS}/mean-driver-1", pod("Failed"))
    said, written = [], []
    code = Job(server.kube, job("Running")).watch(said.append, lambda _, text: written.append(text))
    assert (code, written) == (3, ["hello"])
    assert said == ["mean: WaitingForCluster", "mean: Running", "mean: Failed, exit code 3"]


def test_a_server_that_is_away_for_a_while_is_waited_for(server, monkeypatch):
    server.say("GET", JOB, [job("Running"), BreaksOff(), job("Complete", Complete="")])
    server.say("GET", PODS, {"items": []})
    said = []
    assert Job(server.kube, job("Running")).watch(said.append, lambda *_: None) == 0
    assert said[0] == "mean: Running"
    assert said[-1] == "mean: Complete"


def away(status):
    """An answer as it comes while a server restarts or has too much to do."""
    return Answer(status, {"kind": "Status", "message": "later", "code": status})


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_a_server_that_can_not_now_is_waited_for(server, monkeypatch, status):
    monkeypatch.setattr(client_job, "_POLL_SECONDS", 0)
    ended = {"items": [pod("Failed", exitCode=3)]}
    server.say("GET", JOB, [job("Running"), away(status), job("Failed", Failed="exit code 3")])
    server.say("GET", PODS, [{"items": []}, away(status), ended, away(status), ended])
    server.say("GET", LOG, [away(status), line(1, "hello")])
    server.say("GET", f"{PODS}/mean-driver-1", pod("Failed"))
    said, written = [], []
    code = Job(server.kube, job("Running")).watch(said.append, lambda _, text: written.append(text))
    assert (code, written) == (3, ["hello"])
    assert "later: trying again" in said
    assert said[-1] == "mean: Failed, exit code 3"


def test_a_complete_job_needs_no_pod_for_its_exit_code(server):
    assert Job(server.kube, job("Complete")).exit_code() == 0
    assert not server.asked


def test_all_that_waits_goes_on_after_a_blip(server, monkeypatch):
    monkeypatch.setattr(client_job, "_POLL_SECONDS", 0)
    monkeypatch.setattr(client_cluster, "_POLL_SECONDS", 0)
    found = Job(server.kube, job("Running"))
    server.say("GET", JOB, [away(503), BreaksOff(), job("Complete")])
    assert found.result(30) == "0.5"
    server.say("GET", JOB, [away(503), job("Complete")])
    assert found.exception(30) is None
    server.say("GET", JOB, [job("Running"), away(503), job("Complete")])
    server.say("GET", PODS, [{"items": []}, away(503), {"items": [pod()]}])
    server.say("GET", f"{PODS}/mean-driver-1", pod("Succeeded"))
    server.say("GET", LOG, line(1, "hello"))
    assert list(found.logs(follow_on=True)) == ["hello"]
    made = {"metadata": {"name": "sums", "uid": "7"}, "spec": {"engine": "dask"}}
    ready = {**made, "status": {"conditions": READY}}
    server.say("GET", f"{CLUSTERS}/sums", [made, away(500), ready])
    assert Cluster.of(server.kube, "sums").wait(30).item == ready


def test_patience_has_an_end(server, monkeypatch):
    monkeypatch.setattr(patience, "_SECONDS", 0)
    monkeypatch.setattr(client_job, "_POLL_SECONDS", 0.01)
    server.say("GET", JOB, away(503))
    with pytest.raises(ConnectionLost, match="later"):
        Job(server.kube, job("Running")).result()


def test_logs_and_top_go_on_after_a_blip_and_say_so_elsewhere(server, monkeypatch, capsys):
    monkeypatch.setattr(cli_logs, "_POLL_SECONDS", 0)
    monkeypatch.setattr(top, "_REFRESH_SECONDS", 0)
    labels = {"app.kubernetes.io/component": "driver", "trireme.dev/job": "mean"}
    driver = {**pod(), "spec": {"containers": [{"name": "driver"}]}}
    driver["metadata"]["labels"] = labels
    server.say("GET", JOB, [job("Running"), away(503), job("Complete")])
    server.say("GET", PODS, {"items": [driver]})
    server.refuse("GET", LOG, 403, 'User "me" cannot', "Forbidden")
    assert main.run(["logs", "-f", "mean", f"--kubeconfig={server.kubeconfig}"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("later: trying again\nmean-driver-1: no right to get pods/log")
    metadata = {"metadata": {"name": "sums"}, "spec": {"engine": "dask"}}
    server.say("GET", f"{CLUSTERS}/sums", [away(500), metadata, Answer(404, {"reason": "NotFound", "message": ""})])
    assert main.run(["top", "-w", "sums", f"--kubeconfig={server.kubeconfig}"]) == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[1].startswith("sums   dask")
    assert told.err == "later: trying again\nerror: there is no workercluster sums in namespace team\n"


@pytest.mark.parametrize(
    ("script", "name"),
    [("2024 report.py", "job-2024-report"), ("_x.py", "x"), ("ü.py", "job"), ("My_Job.py", "my-job")],
)
def test_a_submitted_scripts_job_has_a_valid_name_and_goes_in_time(server, tmp_path, script, name):
    sent = {}
    jobs = JOB.removesuffix("/mean")
    server.say("POST", jobs, lambda _, item: sent.update(item) or item | {"metadata": {**item["metadata"], "uid": "1"}})
    server.say("POST", FILES.removesuffix("/files"), {})
    (tmp_path / script).write_text("")
    submit_script(tmp_path / script, engine="dask", timeout=60, kubeconfig=server.kubeconfig)
    assert re.fullmatch(rf"{name}-[0-9a-f]{{5}}", sent["metadata"]["name"])
    assert (sent["spec"]["ttlSecondsAfterFinished"], sent["spec"]["activeDeadlineSeconds"]) == (3600, 60)


def test_like_a_future(server):
    done = Job(server.kube, job("Running"))
    server.say("GET", JOB, job("Complete", Complete=""))
    assert (done.result(1), done.exception(1), done.running()) == ("0.5", None, False)
    server.say("GET", JOB, job("Failed", Failed="why"))
    with pytest.raises(JobFailed, match="why"):
        done.result(1)
    server.say("GET", JOB, job("Running"))
    with pytest.raises(TimeoutError, match="it is Running"):
        done.result(0)
    server.say("DELETE", JOB, {})
    assert done.cancel()
    assert server.asked[-1][0] == "DELETE"
    server.say("GET", JOB, {**job("Running"), "metadata": {"name": "mean", "uid": "another"}})
    assert not done.cancel()


CLUSTERS = "/apis/trireme.dev/v1alpha1/namespaces/team/workerclusters"


def cluster(server):
    """A cluster that is about to be made, and deletions of it that are asked for."""
    made = {}

    def remember(_, sent):
        made.update({**sent, "metadata": {**sent["metadata"], "uid": "7"}, "status": {"conditions": READY}})
        return made

    server.say("POST", CLUSTERS, remember)
    server.say("GET", f"{CLUSTERS}/sums", lambda *_: made)
    server.say("DELETE", f"{CLUSTERS}/sums", {})
    return Cluster("sums", engine="dask", kubeconfig=server.kubeconfig)


READY = [{"type": "Ready", "status": "True", "reason": "Ready", "message": ""}]


def deletions(server):
    return [sent.get("preconditions") for verb, _, _, sent in server.asked if verb == "DELETE"]


def test_celery_needs_an_application(server, tmp_path):
    with pytest.raises(TriremeError, match="app is missing: the Celery application"):
        submit_script(tmp_path / "job.py", engine="celery", kubeconfig=server.kubeconfig)
    assert not server.asked


def test_a_cluster_that_is_not_made_says_how(server):
    for use in (Cluster.dask, Cluster.connect, Cluster.wait):
        with pytest.raises(TriremeError, match="cluster sums is not made: enter it by `with`, or call create"):
            use(Cluster("sums", engine="dask", kubeconfig=server.kubeconfig))
    assert not server.asked


def test_a_notebook_shows_what_was_last_seen(server):
    made = Cluster("sums", engine="dask", kubeconfig=server.kubeconfig)
    assert "not seen by an operator yet" in made._repr_html_()
    server.refuse("GET", f"{CLUSTERS}/sums", 503, "no", "ServiceUnavailable")
    assert "WorkerCluster sums" in made._repr_html_()


@pytest.mark.parametrize("workers", ["2..8", (1, 2, 3), (1, "2"), None, True, 1.5])
def test_what_is_no_number_of_workers_is_told(server, workers):
    with pytest.raises(TriremeError, match="is neither a number, such as 4, nor a pair, such as"):
        Cluster("sums", engine="dask", workers=workers, kubeconfig=server.kubeconfig)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ConnectionLost("no answer")])
def test_a_cluster_whose_making_is_interrupted_is_deleted(server, monkeypatch, error):
    def interrupted(self, *words):
        kept(self, *words)
        raise error

    kept = Kube.create
    monkeypatch.setattr(Kube, "create", interrupted)
    with pytest.raises((KeyboardInterrupt, ConnectionLost)), cluster(server):
        pass
    assert deletions(server) == [{"uid": "7"}]


def test_a_cluster_is_deleted_whatever_its_clients_do_and_the_server_says_first(server, monkeypatch):
    class Stuck:
        def close(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(making, "_PAUSE_SECONDS", 0)
    found = cluster(server).create()
    found._clients.append(Stuck())
    server.say("DELETE", f"{CLUSTERS}/sums", [BreaksOff(), {}])
    with pytest.raises(KeyboardInterrupt):
        found.close()
    assert deletions(server) == [{"uid": "7"}] * 2


def test_a_namesake_of_a_cluster_is_not_deleted(server):
    conflict = {"kind": "Status", "reason": "Conflict", "message": "uid in precondition: 7, in object meta: 8"}
    with cluster(server):
        server.say("DELETE", f"{CLUSTERS}/sums", conflict, 409)
    assert deletions(server) == [{"uid": "7"}]


def test_a_cluster_that_may_be_left_is_told_of(server):
    with pytest.raises(TriremeError, match=r"workerclusters/sums may be left: .*not today"), cluster(server):
        server.refuse("DELETE", f"{CLUSTERS}/sums", 403, "not today", "Forbidden")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_interrupts_taking_back(server, monkeypatch, number):
    def interrupted(self, *words):
        signal.raise_signal(number)
        return kept(self, *words)

    def fail(*_):
        raise AssertionError

    kept = Kube.delete
    monkeypatch.setattr(Kube, "delete", interrupted)
    before = signal.signal(number, fail)
    try:
        with cluster(server):
            pass
    finally:
        signal.signal(number, before)
    assert deletions(server) == [{"uid": "7"}]


@pytest.mark.parametrize(("ours", "deleted"), [(True, ["mean"]), (False, [])])
def test_ctrl_c_while_it_is_made_deletes_it_but_no_namesake(server, tmp_path, monkeypatch, ours, deleted):
    made = {}

    def remember(_, sent):
        made.update(sent)
        return sent

    def interrupted(self, *words):
        kept(self, *words)
        raise KeyboardInterrupt

    kept = Kube.create
    monkeypatch.setattr(Kube, "create", interrupted)
    server.say("POST", JOB.removesuffix("/mean"), remember)
    server.say("GET", JOB, lambda *_: made if ours else job("Running"))
    server.say("DELETE", JOB, {})
    (tmp_path / "job.py").write_text("")
    with pytest.raises(KeyboardInterrupt):
        create(server.kube, tmp_path / "job.py", name="mean", cluster={"engine": "dask"})
    assert [path.rpartition("/")[2] for verb, path, _, _ in server.asked if verb == "DELETE"] == deleted


MANIFEST = """
kind: WorkerJob
apiVersion: trireme.dev/v1alpha1
metadata: {name: mean}
spec: {}
---
kind: ConfigMap
apiVersion: v1
metadata: {name: files}
"""
FILES = "/api/v1/namespaces/team/configmaps/files"


@pytest.fixture
def manifest(server, tmp_path, monkeypatch):
    """Run a job and its files by a manifest; what was sent."""
    sent_to = {}

    def remember(path):
        def answer(_, sent):
            sent_to[path] = {**sent, "metadata": {**sent["metadata"], "uid": path}}
            return sent_to[path]

        return answer

    server.say("POST", JOB.removesuffix("/mean"), remember(JOB))
    server.say("PATCH", FILES, remember(FILES))
    server.say("GET", JOB, lambda *_: sent_to[JOB])
    server.refuse("GET", FILES, 404, "not found", "NotFound")
    server.say("DELETE", JOB, {})
    server.say("DELETE", FILES, {})
    monkeypatch.setattr(making, "_PAUSE_SECONDS", 0)
    (tmp_path / "job.yaml").write_text(MANIFEST)

    def call(**more):
        return submit.manifest(Place(server.kubeconfig), str(tmp_path / "job.yaml"), submit.After(**more))

    return call


def interrupted(*_, **__):
    raise KeyboardInterrupt


def deleted(server):
    return [path.rpartition("/")[2] for verb, path, _, _ in server.asked if verb == "DELETE"]


def test_ctrl_c_deletes_what_was_made(server, manifest, monkeypatch, capsys):
    monkeypatch.setattr(Job, "watch", interrupted)
    assert manifest() == 130
    assert deleted(server) == ["mean", "files"]
    assert deletions(server) == [{"uid": JOB}, {"uid": FILES}]
    assert capsys.readouterr().err == "mean stopped and deleted\n"


def test_ctrl_c_leaves_what_was_there_before(server, manifest, monkeypatch):
    server.say("GET", FILES, {"metadata": {"name": "files", "uid": FILES}})
    monkeypatch.setattr(Job, "watch", interrupted)
    assert manifest() == 130
    assert deleted(server) == ["mean"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ConnectionLost("no answer")])
def test_a_manifests_job_whose_making_is_interrupted_is_deleted(server, manifest, monkeypatch, error):
    def broken(self, *words):
        kept(self, *words)
        raise error

    kept = Kube.create
    monkeypatch.setattr(Kube, "create", broken)
    if isinstance(error, KeyboardInterrupt):
        assert manifest() == 130
    else:
        with pytest.raises(ConnectionLost):
            manifest()
    assert deleted(server) == ["mean", "files"]


def test_ctrl_c_just_after_all_is_made(server, manifest, monkeypatch):
    monkeypatch.setattr(submit, "_show", interrupted)
    assert manifest(output="name") == 130
    assert deleted(server) == ["mean", "files"]


def test_what_is_left_after_ctrl_c_is_told(server, manifest, monkeypatch, capsys):
    monkeypatch.setattr(Job, "watch", interrupted)
    server.say("DELETE", JOB, BreaksOff())
    server.say("DELETE", FILES, [BreaksOff(), {}])
    assert manifest() == 130
    assert deleted(server) == ["mean"] * 3 + ["files"] * 2
    told = capsys.readouterr().err
    assert told.startswith("workerjobs/mean may be left: ")
    assert "files" not in told


def test_ctrl_c_just_after_a_scripts_job_is_made(server, tmp_path, monkeypatch):
    server.say("POST", JOB.removesuffix("/mean"), lambda _, sent: sent | {"metadata": {**sent["metadata"], "uid": "1"}})
    server.say("POST", FILES.removesuffix("/files"), {})
    server.say("DELETE", JOB, {})
    monkeypatch.setattr(submit, "_show", interrupted)
    (tmp_path / "job.py").write_text("")
    wanted = Wanted(tmp_path / "job.py", (), "mean", True, None, {"engine": "dask"}, {}, ())
    assert submit.script(Place(server.kubeconfig), wanted, None, submit.After(output="name")) == 130
    assert deleted(server) == ["mean"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_ended_leaves_nothing(server, manifest, monkeypatch, number):
    monkeypatch.setattr(Job, "watch", lambda *_: signal.raise_signal(number))
    with pytest.raises(SystemExit) as left:
        manifest()
    assert left.value.code == 128 + number
    assert deleted(server) == ["mean", "files"]
    assert signal.getsignal(number) == signal.SIG_DFL


def test_a_detached_run_that_is_ended_goes_on(server, manifest, monkeypatch):
    monkeypatch.setattr(submit.click, "echo", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        manifest(detach=True)
    assert deleted(server) == []


def test_a_run_under_nohup_outlives_its_terminal(server, manifest, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(Job, "watch", lambda *_: signal.raise_signal(signal.SIGHUP) or 0)
        assert manifest() == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert deleted(server) == []


@pytest.mark.parametrize("broken", [LOG, f"{PODS}/mean-driver-1"])
def test_patience_with_a_log_has_an_end(server, monkeypatch, broken):
    monkeypatch.setattr(patience, "_SECONDS", 0)
    monkeypatch.setattr(client_logs, "_PAUSE_SECONDS", 0.01)
    server.say("GET", LOG, line(1, "hello"))
    server.say("GET", f"{PODS}/mean-driver-1", pod())
    server.say("GET", broken, away(500))
    with pytest.raises(ConnectionLost, match="later"):
        list(follow(server.kube, "mean-driver-1", threading.Event(), "driver"))


@pytest.mark.parametrize(
    ("component", "names", "working"),
    [
        ("driver", ["proxy", "driver"], ["driver"]),
        ("worker", ["worker", "worker-1", "worker-22", "worker-x", "proxy"], ["worker", "worker-1", "worker-22"]),
        ("group-worker", ["proxy", "worker"], ["worker"]),
        ("broker", ["redis", "proxy"], ["redis"]),
        ("", ["it", "proxy"], ["it"]),
    ],
)
def test_whose_lines_a_pod_has(component, names, working):
    metadata = {"labels": {"app.kubernetes.io/component": component} if component else {}}
    spec = {"containers": [{"name": name} for name in names]}
    assert client_logs.containers({"metadata": metadata, "spec": spec}) == working


def driver_of(name):
    labels = {"app.kubernetes.io/component": "driver", "trireme.dev/job": name}
    found = {**pod(), "spec": {"containers": [{"name": "driver"}]}}
    return {**found, "metadata": {**found["metadata"], "name": f"{name}-driver-1", "labels": labels}}


def test_logs_of_what_has_labels(server, monkeypatch, capsys):
    monkeypatch.setattr(cli_logs, "_POLL_SECONDS", 0)
    sums = {**job("Complete"), "metadata": {"name": "sums", "uid": "2"}}
    jobs = JOB.removesuffix("/mean")
    server.say("GET", jobs, {"items": [job("Complete"), sums]})
    server.say("GET", CLUSTERS, {"items": []})
    server.say("GET", JOB, job("Complete"))
    server.say("GET", f"{jobs}/sums", sums)
    server.say("GET", PODS, {"items": [driver_of("mean"), driver_of("sums")]})
    for number, name in enumerate(("mean", "sums")):
        server.say("GET", f"{PODS}/{name}-driver-1/log", line(number, name))
        server.say("GET", f"{PODS}/{name}-driver-1", pod("Succeeded"))
    words = ["logs", "--selector=team=a", "--tail=3", "--since=1m30s", f"--kubeconfig={server.kubeconfig}"]
    for more in ([], ["--follow"]):
        server.asked.clear()
        assert main.run([*words, *more]) == 0
        told = capsys.readouterr().out.splitlines()
        assert sorted(told) == ["mean-driver-1 mean", "sums-driver-1 sums"]
        queries = [query for _, path, query, _ in server.asked if path.endswith("/log")]
        assert [(query["tailLines"], query["sinceSeconds"]) for query in queries] == [("3", "90")] * 2
        selected = [query["labelSelector"] for _, path, query, _ in server.asked if path in (jobs, CLUSTERS)]
        assert selected == ["team=a"] * 2
    # One that went after it was listed takes nothing from the others.
    server.refuse("GET", f"{PODS}/mean-driver-1/log", 404, 'pods "mean-driver-1" not found', "NotFound")
    assert main.run(words) == 0
    assert capsys.readouterr().out == "sums-driver-1 sums\n"
    server.say("GET", jobs, {"items": []})
    assert main.run(words) == 1
    assert "there is neither a job nor a cluster with labels team=a in namespace team" in capsys.readouterr().err
    assert main.run(["logs", "mean", *words[1:]]) == main.run(["logs"]) == 2


def test_a_log_begins_where_asked_once(server):
    server.say("GET", f"{PODS}/mean-driver-1", pod("Succeeded"))
    server.say("GET", LOG, [BreaksOff(line(1, "one")), line(1, "one") + line(2, "two")])
    found = list(follow(server.kube, "mean-driver-1", threading.Event(), "driver", {"tailLines": "1"}))
    assert found == ["one", "two"]
    asked = [query for _, path, query, _ in server.asked if path == LOG]
    assert ["tailLines" in query for query in asked] == [True, False]


def test_top_wide(server, capsys):
    spec = {"engine": "dask", "image": "mine:1"}
    status = {"endpoints": [{"name": "scheduler", "url": "tcp://sums-scheduler.team.svc:8786"}]}
    server.say("GET", f"{CLUSTERS}/sums", {"metadata": {"name": "sums"}, "spec": spec, "status": status})
    assert main.run(["top", "sums", "--output=wide", f"--kubeconfig={server.kubeconfig}"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[-3:] == ["AGE", "IMAGE", "ENDPOINT"]
    assert row.split()[-3:] == ["-", "mine:1", "tcp://sums-scheduler.team.svc:8786"]
    assert main.run(["top", "sums", "--output=yaml", f"--kubeconfig={server.kubeconfig}"]) == 0
    assert "  image: mine:1\n" in capsys.readouterr().out


def test_the_servers_word_on_a_dry_run(server, manifest, capsys):
    assert manifest(dry_run="server", output="name") == 0
    writes = [(verb, query.get("dryRun")) for verb, _, query, _ in server.asked if verb in ("POST", "PATCH")]
    assert writes == [("PATCH", "All"), ("POST", "All")]
    assert capsys.readouterr().out == "configmap/files\nworkerjob.trireme.dev/mean\n"
    assert deleted(server) == []


def test_contexts_are_completed(server, monkeypatch, capsys):
    words = f"trireme top --kubeconfig {server.kubeconfig} --context h"
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", "5")
    monkeypatch.setenv("_TRIREME_COMPLETE", "bash_complete")
    with pytest.raises(SystemExit):
        main.run([])
    assert capsys.readouterr().out == "plain,here\n"


def test_a_celery_application_gets_the_settings_of_its_workers(server, monkeypatch):
    celery = pytest.importorskip("celery")
    monkeypatch.setattr(Cluster, "connect", lambda _: {"CELERY_BROKER_URL": "amqp://127.0.0.1:1//"})
    defaults = {"task_default_queue_type": "quorum", "task_acks_late": True}
    data = {"defaults.json": json.dumps(defaults), "config.json": '{"task_default_queue": "sums"}'}
    server.say("GET", "/api/v1/namespaces/team/configmaps/sums-conf", {"data": data})
    server.say("GET", f"{CLUSTERS}/sums", {"metadata": {"name": "sums"}, "spec": {"engine": "celery"}})
    mine = celery.Celery("mine", set_as_current=False)
    mine.conf.task_acks_late = False
    found = Cluster.of(server.kube, "sums").celery(mine).conf
    assert (found.task_default_queue_type, found.task_acks_late, found.task_default_queue) == ("quorum", False, "sums")
    assert found.broker_url == "amqp://127.0.0.1:1//"


def test_labels_of_a_scripts_job_and_what_a_borrowed_cluster_lacks(server, tmp_path, capsys):
    sent = {}
    server.say("GET", f"{CLUSTERS}/sums", {"metadata": {"name": "sums"}, "spec": {"engine": "dask"}})
    server.say("POST", JOB.removesuffix("/mean"), lambda _, item: sent.update(item) or item)
    server.say("POST", FILES.removesuffix("/files"), {})
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "job.py").write_text("import helper\n")
    words = [
        "run",
        str(tmp_path / "job.py"),
        "--cluster=sums",
        "--labels=team=a,kind=b",
        "--dry-run=server",
        "-o",
        "name",
    ]
    server.say("POST", FILES.removesuffix("/files"), lambda _, item: item)
    assert main.run([*words, f"--kubeconfig={server.kubeconfig}"]) == 0
    assert sent["metadata"]["labels"] == {"team": "a", "kind": "b"}
    assert "helper.py: for the driver alone, the workers of sums do not get what goes along" in capsys.readouterr().err


def worker_of(cluster):
    labels = {"app.kubernetes.io/component": "worker"}
    spec = {"containers": [{"name": "worker"}]}
    return {"metadata": {"name": f"{cluster}-worker-1", "labels": labels}, "spec": spec, "status": {"phase": "Running"}}


def test_workers_logs_and_tasks_done_are_told_beside_the_drivers(server, monkeypatch):
    before = []

    def count(self, stack):
        before.append(self._before)
        return lambda: 5

    monkeypatch.setattr(progress.TasksDone, "_dask", count)
    monkeypatch.setattr(client_job, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(client_job, "_COUNT_SECONDS", 0.0)
    said, written = [], []

    def running(*_):
        """Until all has been told."""
        over = any("tasks done" in text for text in said) and len(written) > 1
        state = job("Complete") if over else job("Running")
        return {**state, "spec": {"clusterTemplate": {}}, "status": {**state["status"], "cluster": "sums"}}

    def pods(query, _):
        return {"items": [worker_of("sums") if "group-worker" in query["labelSelector"] else pod()]}

    server.say("GET", JOB, running)
    server.say("GET", f"{CLUSTERS}/sums", {"metadata": {"name": "sums"}, "spec": {"engine": "dask"}})
    server.say("GET", PODS, pods)
    server.say("GET", LOG, line(1, "hello"))
    server.say("GET", f"{PODS}/sums-worker-1/log", line(1, "working"))
    for name in ("mean-driver-1", "sums-worker-1"):
        server.say("GET", f"{PODS}/{name}", pod("Succeeded"))
    found = Job(server.kube, running())
    writes = (lambda _, text: written.append(text), lambda name, text: written.append(f"{name} {text}"))
    assert found.watch(said.append, *writes) == 0
    assert sorted(written) == ["hello", "sums-worker-1 working"]
    assert "mean: Running, 0/1 workers, 5 tasks done" in said
    assert before == [0]


def test_tasks_of_others_are_not_counted(server, monkeypatch):
    counts, over = [41, 42, 40], threading.Event()

    def ask():
        if counts:
            return counts.pop()
        over.set()
        raise ConnectionLost("no answer")

    monkeypatch.setattr(progress, "_POLL_SECONDS", 0)
    monkeypatch.setattr(progress.TasksDone, "_celery", lambda *_: ask)
    done = progress.TasksDone(server.kube, {"spec": {"engine": "celery"}}, {}, borrowed=True)
    assert over.wait(20)
    done.close()
    assert done.count == 2


DASK_PAGE = """\
# TYPE dask_scheduler_prefix_state_totals_total counter
dask_scheduler_prefix_state_totals_total{state="memory",task_prefix_name="inc"} 5.0
dask_scheduler_prefix_state_totals_total{task_prefix_name="sum",state="memory"} 2.0
dask_scheduler_prefix_state_totals_total{state="processing",task_prefix_name="inc"} 7.0
"""
SPARK_PAGE = """\
metrics_executor_completedTasks_total{application_id="a", application_name="b", executor_id="0"} 11
metrics_executor_completedTasks_total{application_id="a", application_name="b", executor_id="driver"} 0
metrics_executor_failedTasks_total{application_id="a", application_name="b", executor_id="0"} 3
"""


def test_what_engines_tell_of_tasks():
    assert progress.summed(progress._DASK, DASK_PAGE) == 7
    assert progress.summed(progress._SPARK, SPARK_PAGE) == 11
    assert progress.celery_done([{"total": {"add": 4, "mul": 2}}, {"total": {"add": 1}}], 2) == 5


class Terminal:
    """Somebody who can be asked."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("answer", "left", "told"),
    [
        (True, ["mean", "files"], "mean stopped and deleted"),
        (False, [], "mean goes on: trireme logs -f mean"),
        (KeyboardInterrupt, ["mean", "files"], "mean stopped and deleted"),
    ],
)
def test_ctrl_c_asks_once(server, manifest, monkeypatch, capsys, answer, left, told):
    def confirm(question, **_):
        assert question == "Stop mean and delete it?"
        if answer is KeyboardInterrupt:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(Job, "watch", interrupted)
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(submit.click, "confirm", confirm)
    assert manifest() == 130
    assert deleted(server) == left
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("words", [("run", "-f"), ("logs", "mean", "-f"), ("top", "-w"), ("doctor",), ("ui", "sums")])
def test_ctrl_c_before_the_cluster_has_answered(server, tmp_path, monkeypatch, words):
    (tmp_path / "job.yaml").write_text(MANIFEST)
    monkeypatch.setattr(Kube, "request", interrupted)
    more = [str(tmp_path / "job.yaml")] if words[0] == "run" else []
    assert main.run([*words, *more, f"--kubeconfig={server.kubeconfig}"]) == (0 if words[0] == "top" else 130)
    assert deleted(server) == []


def test_top_of_all_namespaces(server, capsys):
    clusters = [
        {"metadata": {"name": "sums", "namespace": name}, "spec": {"engine": "dask"}} for name in ("team", "other")
    ]
    labels = {"app.kubernetes.io/instance": "sums"}
    used = {
        "metadata": {"namespace": "other", "labels": labels},
        "containers": [{"usage": {"cpu": "250m", "memory": "3Mi"}}],
    }
    server.say("GET", "/apis/trireme.dev/v1alpha1/workerclusters", {"items": clusters})
    server.say("GET", "/apis/metrics.k8s.io/v1beta1/pods", {"items": [used]})
    assert main.run(["top", "-A", f"--kubeconfig={server.kubeconfig}"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:2] == ["NAMESPACE", "NAME"]
    assert [line[:6] for line in lines[1:]] == [
        ["team", "sums", "dask", "0/1", "-", "-"],
        ["other", "sums", "dask", "0/1", "0.25", "3Mi"],
    ]
    assert main.run(["top", "-A", "sums", f"--kubeconfig={server.kubeconfig}"]) == 2
