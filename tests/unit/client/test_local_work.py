"""What laptop mode takes out of a manifest."""

import pytest

from trireme.errors import TriremeError
from trireme.local.work import Manifest

CODE = {"kind": "ConfigMap", "metadata": {"name": "code"}, "data": {"tasks.py": "x = 1\n"}, "binaryData": {"a": "AP8="}}
CLUSTER = {
    "kind": "WorkerCluster",
    "metadata": {"name": "sums"},
    "spec": {"engine": "celery", "celery": {"app": "tasks"}},
}
SECRET = {"kind": "Secret", "metadata": {"name": "key"}, "data": {"a": "b25l"}, "stringData": {"b": "two"}}


def job(driver, **spec):
    return {"kind": "WorkerJob", "metadata": {"name": "add"}, "spec": {"driver": driver, **spec}}


def own(driver, **spec):
    return job(driver, clusterTemplate={"spec": {"engine": "dask", **spec}})


def works(*documents):
    return Manifest(documents, "job.yaml").jobs()


def test_a_script_with_a_cluster_of_its_own():
    driver = {"script": "print(1)", "args": ["a", 2], "resources": {"limits": {"memory": "1Gi"}}}
    (work,) = works(own(driver, replicas=2), None)
    assert (work.name, work.engine, work.cluster["replicas"]) == ("add", "dask", 2)
    assert (work.program, work.args, work.driver_memory) == ({"main.py": b"print(1)"}, ["a", "2"], "1Gi")


def test_a_cluster_that_is_borrowed_and_code_are_found_in_the_manifest():
    cluster = {**CLUSTER, "spec": {**CLUSTER["spec"], "code": {"configMap": "code"}}}
    (work,) = works(CODE, job({"script": "pass"}, clusterRef={"name": "sums"}), cluster)
    assert work.engine == "celery"
    assert work.code == {"tasks.py": b"x = 1\n", "a": b"\x00\xff"}


@pytest.mark.parametrize("key", ["", ".", "..", "../../.profile", "/etc/passwd", "a/b", "..a", "a b", "a\n"])
@pytest.mark.parametrize("kind", ["data", "binaryData"])
def test_a_key_is_a_file_of_its_folder_and_of_no_other(key, kind):
    code = {"kind": "ConfigMap", "metadata": {"name": "code"}, kind: {key: ""}}
    with pytest.raises(TriremeError, match=r"ConfigMap code: key .*: use letters"):
        works(code, own({"script": "pass"}, code={"configMap": "code"}))


def test_keys_are_what_the_api_server_takes():
    data = dict.fromkeys(("main.py", ".hidden", "a..b", "A-b_c.1"), "pass")
    (work,) = works({**CODE, "data": data, "binaryData": {}}, own({"code": {"configMap": "code"}}))
    assert work.program.keys() == data.keys()


def test_a_command_needs_no_main():
    (work,) = works(own({"command": ["python", "-c", "pass"]}))
    assert (work.command, work.program) == (["python", "-c", "pass"], {})


def test_variables_come_from_what_the_manifest_has():
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "key", "key": "a"}}},
        {"name": "C", "valueFrom": {"secretKeyRef": {"name": "key", "key": "b"}}},
        {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "code", "key": "tasks.py"}}},
    ]
    (work,) = works(SECRET, CODE, own({"script": "pass", "env": env}))
    assert work.env == {"A": "1", "B": "one", "C": "two", "D": "x = 1\n"}


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([CODE], "job.yaml: there is no WorkerJob in it"),
        (["text"], "document 1 has no kind or no metadata.name"),
        ([job({"script": "pass"}, clusterRef={"name": "sums"})], "there is no WorkerCluster sums in the manifest"),
        (
            [own({"script": "pass"}, code={"configMap": "lost"})],
            "code.configMap of its cluster: there is no ConfigMap lost",
        ),
        ([own({"code": {"configMap": "code"}}), CODE], "no code with a main.py"),
        ([own({})], "has no script, no command"),
        ([job({"script": "pass"})], "spec has no clusterRef"),
        ([own({"script": "pass"}, engine="ray")], "engine 'ray' is none of dask, spark, celery"),
        (
            [own({"script": "pass", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]})],
            "A comes from something that is not in the manifest",
        ),
    ],
)
def test_what_is_missing_is_named(documents, message):
    with pytest.raises(TriremeError, match=message):
        works(*documents)
