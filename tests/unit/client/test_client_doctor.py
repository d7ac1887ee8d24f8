"""What is found wrong, each with its fix."""

from datetime import UTC, datetime

import pytest

from trireme.cli.connect import dashboard, how_to_log_in
from trireme.client import versions
from trireme.client.display import cluster as shown
from trireme.client.doctor import _rights, kind_findings, object_findings, operator_findings, pod_findings
from trireme.client.versions import celery_findings, differences, python_findings, spark_findings
from trireme.errors import TriremeError

NOW = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)


def item(kind, **conditions):
    found = [
        {"type": name, "status": status, "reason": reason, "message": "the message"}
        for name, (status, reason) in conditions.items()
    ]
    return {"kind": kind, "metadata": {"name": "a"}, "spec": {"engine": "dask"}, "status": {"conditions": found}}


@pytest.mark.parametrize(
    ("found", "fix"),
    [
        (item("WorkerCluster", Ready=("False", "OOMKilled")), "raise the memory limit"),
        (item("WorkerCluster", Ready=("True", "Ready"), AutoscalingActive=("False", "NoAnswer")), "docs/conditions.md"),
        (item("WorkerJob", ClusterReady=("False", "NotFound")), "create the cluster"),
        (item("WorkerJob", DriverRunning=("False", "Ended"), Failed=("True", "DriverFailed")), "trireme logs a has"),
        (item("WorkerJob", DriverRunning=("False", "ImagePullBackOff")), "correct the image's name"),
        (item("WorkerGroup", Ready=("False", "ClusterNotFound")), "docs/conditions.md has all reasons"),
        (item("WorkerCronJob", Ready=("False", "InvalidSchedule")), "docs/conditions.md has all reasons"),
    ],
)
def test_what_conditions_tell(found, fix):
    (finding,) = object_findings(found)
    assert "the message" in finding.what
    assert fix in finding.fix


@pytest.mark.parametrize(
    "found",
    [
        item("WorkerCluster", Ready=("True", "Ready")),
        item("WorkerCluster", Ready=("False", "NoWorkers")),
        item("WorkerGroup", Ready=("False", "ClusterNotReady")),
        item("WorkerCronJob", Ready=("True", "JobAlreadyActive")),
        item("WorkerJob", ClusterReady=("False", "Creating")),
        item("WorkerJob", ClusterReady=("False", "NotFound"), Complete=("True", "Completed")),
    ],
)
def test_what_is_well_or_on_its_way(found):
    assert not [*object_findings(found)]


def test_what_nobody_looked_at():
    (finding,) = object_findings({"kind": "WorkerJob", "metadata": {"name": "a"}})
    assert "see whether the operator runs" in finding.fix


def test_ways_to_engines_need_both_verbs_of_forwards():
    class Refusing:
        namespace = "team"

        def path(self, plural):
            return plural

        def request(self, method, path, review):
            return {"status": {"allowed": review["spec"]["resourceAttributes"].get("subresource") != "portforward"}}

    assert [finding.what for finding in _rights(Refusing())] == [
        "no right to get pods/portforward in namespace team",
        "no right to create pods/portforward in namespace team",
    ]


def pod(status, created="2026-01-01T00:00:00Z", **metadata):
    return {"metadata": {"name": "p", "creationTimestamp": created, **metadata}, "status": status}


WAITING = {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}
UNSCHEDULED = {"phase": "Pending", "conditions": [{"status": "False", "message": "0/2 nodes are available"}]}
KILLED = {"name": "worker", "restartCount": 4, "lastState": {"terminated": {"reason": "OOMKilled"}}}


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (pod(WAITING), "pending for 3600 s: ImagePullBackOff"),
        (pod(UNSCHEDULED), "pending for 3600 s: 0/2 nodes are available"),
        (pod({"phase": "Running", "containerStatuses": [KILLED]}), "restarted 4 times, last after OOMKilled"),
        (pod({"phase": "Running"}, deletionTimestamp="2026-01-01T00:30:00Z"), "should have gone 1800 s ago"),
    ],
)
def test_stuck_pods(found, what):
    (finding,) = pod_findings(found, NOW)
    assert what in finding.what


@pytest.mark.parametrize(
    "found",
    [
        pod({"phase": "Running"}),
        pod({"phase": "Pending"}, created="2026-01-01T00:59:00Z"),
        pod({"phase": "Running"}, deletionTimestamp="2026-01-01T01:00:30Z"),
    ],
)
def test_pods_that_are_well(found):
    assert not [*pod_findings(found, NOW)]


def kind(version, **driver):
    spec = {"properties": {"driver": {"properties": driver}}}
    schema = {"openAPIV3Schema": {"properties": {"spec": spec}}}
    return {"spec": {"versions": [{"name": version, "served": True, "schema": schema}]}}


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (kind("v1alpha1", code={}), None),
        (kind("v1alpha1"), "older than this command: it has no field `code`"),
        (kind("v1", code={}), "is served as v1"),
    ],
)
def test_kinds(found, what):
    findings = [*kind_findings("workerjobs", found)]
    assert [what in finding.what for finding in findings] == ([True] if what else [])


def test_every_kind_is_looked_for():
    (finding,) = kind_findings("workergroups", kind("v1"))
    assert finding.what == "workergroups.trireme.dev is served as v1"
    assert not [*kind_findings("workercronjobs", kind("v1alpha1"))]


@pytest.mark.parametrize(("there", "apart"), [("0.1.0", False), ("0.1.7", False), ("0.2.0", True), (None, False)])
def test_the_operators_version(there, apart):
    labels = {"app.kubernetes.io/version": there} if there else {}
    found = [*operator_findings({"metadata": {"namespace": "system", "labels": labels}})]
    assert [(one.what, one.error) for one in found] == (
        [("trireme 0.1.0 here, operator 0.2.0 in namespace system", False)] if apart else []
    )


def test_versions():
    here = {"python": "3.11.7.final.0", "dask": "2026.8.1", "numpy": "2.1.0", "pandas": "2.0"}
    same = {"python": "3.11.2.final.0", "dask": "2026.8.0", "numpy": "2.1.3"}
    assert differences(here, {"a": same}) == ([], [])
    other = {**same, "python": "3.13.1.final.0", "numpy": "2.3.0"}
    must, should = differences(here, {"a": same, "b": other})
    assert must == ["python 3.11.7.final.0 here, 3.11.2.final.0 and 3.13.1.final.0 in the cluster"]
    assert should == ["numpy 2.1.0 here, 2.1.3 and 2.3.0 in the cluster"]


@pytest.mark.parametrize(
    ("here", "there", "connect", "error"),
    [
        ("4.2.0", "4.2.1", False, None),
        ("4.2.0", "4.3.0", False, True),
        ("4.2.0", "4.3.0", True, None),
        ("4.3.0", "4.2.0", True, False),
        ("3.5.1", "4.3.0", True, True),
        ("4.0.0.dev1", "4.0.0", True, None),
    ],
)
def test_versions_of_spark(here, there, connect, error):
    found = spark_findings(here, there, connect)
    assert [one.error for one in found] == ([] if error is None else [error])
    assert all(f"pyspark {here} here, Spark {there} in the cluster" in one.what for one in found)


@pytest.mark.parametrize("how", ['class="version me-3"', 'class="version" style="margin-right: 15px;"'])
def test_the_version_on_the_page_of_sparks_master(how):
    page = f'<img class="spark-logo"/>\n<span {how}>4.3.0</span>\n</a>\nSpark Master at spark://10.244.0.154:7077'
    assert versions._SPARK_VERSION.search(page)[1] == "4.3.0"


def test_versions_of_celery():
    report = "\nsoftware -> celery:5.5.2 (immunity) kombu:5.5.3 py:3.13.5\n            billiard:4.2.1 redis:5.2.1\n"
    assert celery_findings({"celery": "5.5.0", "kombu": "5.5.3"}, {"a": report}) == []
    (found,) = celery_findings({"celery": "5.7.0", "kombu": "5.5.3"}, {"a": report, "b": ""})
    assert (found.what, found.error) == ("celery 5.7.0 here, 5.5.2 in the cluster", False)
    (found,) = celery_findings({"celery": "5.5.0", "python": "3.11.7"}, {"a": report, "b": ""})
    assert (found.what, found.error) == ("python 3.11.7 here, 3.13.5 in the cluster", False)
    assert "for tasks that pickle" in found.fix


@pytest.mark.parametrize(("there", "apart"), [("3.11.2", False), ("3.13.5", True), ("", False)])
def test_pythons_of_spark(there, apart):
    found = python_findings("3.11.7", there)
    what = "python 3.11.7 here, 3.13.5 in the cluster: functions of yours (UDFs) fail"
    assert [(one.what, one.error) for one in found] == ([(what, False)] if apart else [])


def test_a_spark_session_warns_of_another_python(monkeypatch):
    item = {"metadata": {"name": "nights"}, "spec": {"engine": "spark", "spark": {"mode": "connect"}}}
    monkeypatch.setattr(versions, "_spark_here", lambda: "4.2.0")
    monkeypatch.setattr(versions, "_python", lambda *_: "3.8.1")
    with pytest.warns(UserWarning, match=r"3\.8\.1 in the cluster: functions of yours \(UDFs\) fail: install the same"):
        versions.check_spark(None, item, "4.3.0")

    def refuse(*_):
        raise TriremeError("no right to get pods/exec")

    monkeypatch.setattr(versions, "_python", refuse)
    with pytest.warns(UserWarning, match=r"pyspark 4\.2\.0 here, Spark 4\.1\.0 in the cluster: it may lack"):
        versions.check_spark(None, item, "4.1.0")


@pytest.mark.parametrize(
    ("plurals", "found"), [(("workerclusters",), []), (("workerjobs",), ["celery of numbers"]), ((), [])]
)
def test_a_jobs_versions_are_those_of_its_cluster(monkeypatch, plurals, found):
    ready = [{"type": "Ready", "status": "True", "reason": "Ready", "message": ""}]
    numbers = {"metadata": {"name": "numbers"}, "spec": {"engine": "celery"}, "status": {"conditions": ready}}
    there = {("workerjobs", "mean"): {"status": {"cluster": "numbers"}}, ("workerclusters", "numbers"): numbers}

    class Kube:
        def find(self, plural, name):
            return there.get((plural, name))

    monkeypatch.setattr(versions, "_celery", lambda _, item: [f"celery of {item['metadata']['name']}"])
    assert versions.compare(Kube(), "mean", plurals) == found


@pytest.mark.parametrize("engine", ["dask", "spark", "celery"])
def test_an_engine_that_does_not_answer_hides_no_findings(monkeypatch, engine):
    def fail(*_):
        raise OSError("timed out")

    ready = [{"type": "Ready", "status": "True", "reason": "Ready", "message": ""}]

    class Kube:
        def find(self, plural, name):
            return {"metadata": {"name": name}, "spec": {"engine": engine}, "status": {"conditions": ready}}

    monkeypatch.setattr(versions, f"_{engine}", fail)
    (found,) = versions.compare(Kube(), "a")
    assert (found.what, found.error) == ("versions can't be compared: timed out", False)
    ready[0]["status"], ready[0]["reason"] = "False", "Suspended"
    assert versions.compare(Kube(), "a") == []


def test_how_to_log_in_to_flower():
    found = {"metadata": {"name": "a", "namespace": "team"}, "spec": {"engine": "celery"}}
    with pytest.raises(TriremeError, match=r"cluster a, a celery, has no dashboard: set spec\.celery\.flower\.enabled"):
        dashboard(found)
    found["status"] = {
        "endpoints": [
            {"name": "broker", "url": "redis://a-broker.team.svc:6379"},
            {"name": "flower", "url": "http://a-flower.team.svc:5555"},
        ]
    }
    assert dashboard(found).port == 5555
    assert "kubectl get secret a-auth --namespace=team" in how_to_log_in(found)
    found["spec"]["values"] = {"auth": {"existingSecret": "mine"}}
    assert "kubectl get secret mine " in how_to_log_in(found)


def test_what_notebooks_show_is_text():
    found = item("WorkerCluster", Ready=("False", "<script>"))
    assert "<script>" not in shown(found)
    assert "&lt;script&gt;" in shown(found)
