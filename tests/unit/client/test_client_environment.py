"""How a program here finds an engine there."""

import base64
import json

import pytest
from answering import answering

from trireme.client import environment
from trireme.client.forward import target
from trireme.client.kube import Kube
from trireme.errors import TriremeError

WORKERS = "/apis/apps/v1/namespaces/team/deployments/sums-worker"


@pytest.fixture
def server(tmp_path):
    with answering(tmp_path) as (answers, config):
        answers.kube = Kube(config)
        yield answers


def cluster(engine):
    return {"metadata": {"name": "sums"}, "spec": {"engine": engine}}


def workers(*env, **annotations):
    containers = [{"name": "mesh", "env": []}, {"name": "worker", "env": [*env]}]
    return {"metadata": {"annotations": annotations}, "spec": {"template": {"spec": {"containers": containers}}}}


def secret(name, key):
    return {"secretKeyRef": {"name": name, "key": key}}


def test_celery_with_a_password(server):
    env = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "OTHER", "valueFrom": secret("not-to-be-read", "a")},
        {"name": "REDIS_PASSWORD", "valueFrom": secret("sums-auth", "password")},
        {"name": "CELERY_BROKER_URL", "value": "redis://:$(REDIS_PASSWORD)@sums-broker.team.svc:6379/0"},
    ]
    server.say("GET", WORKERS, workers(*env))
    encoded = base64.b64encode(b"pass").decode()
    server.say("GET", "/api/v1/namespaces/team/secrets/sums-auth", {"data": {"password": encoded}})
    found = environment.inside(server.kube, cluster("celery"))
    assert found == {"CELERY_BROKER_URL": "redis://:pass@sums-broker.team.svc:6379/0"}
    assert environment.services(found, "team") == {("sums-broker", 6379)}
    outside = environment.rewritten(found, "team", {("sums-broker", 6379): "127.0.0.1:5"})
    assert outside == {"CELERY_BROKER_URL": "redis://:pass@127.0.0.1:5/0"}


def test_a_broker_elsewhere_is_left_as_it_is():
    env = {"CELERY_BROKER_URL": "amqp://me@rabbit.other.svc:5672//"}
    assert environment.services(env, "team") == set()
    assert environment.rewritten(env, "team", {}) == env


def test_spark_connect_needs_no_master(server):
    env = [{"name": "SPARK_MASTER", "value": "spark://sums-master.team.svc:7077"}]
    more = {"env": [{"name": "SPARK_REMOTE", "value": "sc://sums-connect.team.svc:15002"}]}
    server.say("GET", WORKERS, workers(*env, **{"trireme.dev/drivers": json.dumps(more)}))
    assert environment.inside(server.kube, cluster("spark")) == {"SPARK_REMOTE": "sc://sums-connect.team.svc:15002"}


def test_a_driver_in_a_pod_has_the_clusters_properties(server):
    conf = "spark.authenticate true\nspark.master  spark://sums-master.team.svc:7077\nspark.a b c\n\n"
    server.say("GET", "/api/v1/namespaces/team/configmaps/sums-conf", {"data": {"spark-defaults.conf": conf}})
    assert environment.spark_properties(server.kube, "sums") == {
        "spark.authenticate": "true",
        "spark.master": "spark://sums-master.team.svc:7077",
        "spark.a": "b c",
    }


def test_a_standalone_spark_is_out_of_reach_from_outside(server):
    server.say("GET", WORKERS, workers({"name": "SPARK_MASTER", "value": "spark://sums-master.team.svc:7077"}))
    with pytest.raises(
        TriremeError, match=r"whose executors must reach the driver: connect from a pod, .*spec\.spark\.mode"
    ):
        environment.Connection(server.kube, cluster("spark"))


def test_a_cluster_that_is_not_there_yet(server):
    server.refuse("GET", WORKERS, 404, "not found", "NotFound")
    with pytest.raises(TriremeError, match="wait until it is Ready"):
        environment.inside(server.kube, cluster("dask"))


def pod(name, ready, phase="Running", **metadata):
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    ports = [{"name": "http", "containerPort": 8787}]
    return {
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [{"ports": ports}]},
        "status": {"phase": phase, "conditions": conditions},
    }


def service(target_port):
    return {"spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": target_port}]}}


@pytest.mark.parametrize("target_port", ["http", 8787])
def test_a_service_leads_to_the_pod_that_is_ready(server, target_port):
    leaving = pod("leaving", True, deletionTimestamp="2026-01-01T00:00:00Z")
    pods = [pod("new", False), pod("over", True, "Succeeded"), leaving, pod("good", True)]
    server.say("GET", "/api/v1/namespaces/team/services/sums", service(target_port))
    server.say("GET", "/api/v1/namespaces/team/pods", {"items": pods})
    assert target(server.kube, "sums", 80) == ("good", 8787)
    assert server.asked[-1][2]["labelSelector"] == "a=b"


def test_a_service_without_pods(server):
    server.say("GET", "/api/v1/namespaces/team/services/sums", service(1))
    server.say("GET", "/api/v1/namespaces/team/pods", {"items": []})
    with pytest.raises(TriremeError, match="no pod of Service sums runs"):
        target(server.kube, "sums", 80)


@pytest.mark.parametrize("answers", [True, False])
def test_a_pod_goes_straight_where_it_may_and_by_a_forward_where_not(server, monkeypatch, answers):
    server.say(
        "GET", WORKERS, workers({"name": "DASK_SCHEDULER_ADDRESS", "value": "tcp://sums-scheduler.team.svc:8786"})
    )
    asked = []
    own = "10.0.0.7" if answers else ""
    monkeypatch.setattr(environment, "_own_address", lambda *place: asked.append(place) or own)
    server.kube.inside = True
    with environment.Connection(server.kube, cluster("dask")) as connection:
        address = connection.env["DASK_SCHEDULER_ADDRESS"]
    assert asked == [("sums-scheduler.team.svc", 8786)]
    assert address.startswith("tcp://sums-scheduler.team.svc:8786" if answers else "tcp://127.0.0.1:")


def test_a_pod_is_a_driver_of_a_standalone_spark(server, monkeypatch):
    """Executors reach it by its address, and PySpark has the cluster's properties without its configuration file."""
    conf = "spark.master spark://sums-master.team.svc:7077\nspark.executor.extraJavaOptions -Da=b -Dc=d\n"
    server.say("GET", WORKERS, workers({"name": "SPARK_MASTER", "value": "spark://sums-master.team.svc:7077"}))
    server.say("GET", "/api/v1/namespaces/team/configmaps/sums-conf", {"data": {"spark-defaults.conf": conf}})
    monkeypatch.setattr(environment, "_own_address", lambda *_: "10.0.0.7")
    server.kube.inside = True
    with environment.Connection(server.kube, cluster("spark")) as connection:
        assert connection.env == {
            "SPARK_MASTER": "spark://sums-master.team.svc:7077",
            "SPARK_LOCAL_HOSTNAME": "10.0.0.7",
            "PYSPARK_SUBMIT_ARGS": "--conf spark.master=spark://sums-master.team.svc:7077"
            " --conf 'spark.executor.extraJavaOptions=-Da=b -Dc=d' pyspark-shell",
        }
