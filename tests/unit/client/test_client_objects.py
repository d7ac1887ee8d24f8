"""What is made for a script: names, files, specs."""

import base64
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from trireme.cli import sources
from trireme.client import objects
from trireme.client.job import cluster_spec, fresh
from trireme.client.objects import job_name
from trireme.errors import TriremeError


@pytest.fixture
def folder(tmp_path):
    for name, text in {
        "job.py": "import os, bare.inner\nfrom tools import mean\nimport deep.down.under\nfrom deep import side\n",
        "tools.py": "import helper\n",
        "helper.py": "import tools, job\n",
        "deep/__init__.py": "",
        "deep/side.py": "from . import near\nfrom .down import under\n",
        "deep/near.py": "",
        "deep/down/__init__.py": "from ..up import x\n",
        "deep/down/under.py": "",
        "deep/up.py": "x = 1\n",
        "bare/inner.py": "y = 1\n",
        "deep/unused.py": "",
        "unused.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_a_script_imports_goes_along_and_nothing_else(folder):
    found = objects.modules(folder / "job.py", (folder / "job.py").read_text())
    assert [*found] == [
        "bare/inner.py",
        "deep/__init__.py",
        "deep/down/__init__.py",
        "deep/down/under.py",
        "deep/near.py",
        "deep/side.py",
        "deep/up.py",
        "helper.py",
        "tools.py",
    ]


def test_an_application_goes_along_although_nothing_imports_it(folder):
    assert "unused.py" in objects.modules(folder / "job.py", "", ["unused"])


def test_python_imports_from_the_archive(folder):
    found = objects.zipped(objects.modules(folder / "job.py", (folder / "job.py").read_text()))
    assert zipfile.ZipFile(io.BytesIO(found)).testzip() is None
    (folder / "modules.zip").write_bytes(found)
    code = "import sys; sys.path.insert(0, 'modules.zip'); import bare.inner, deep.up, tools; print(deep.up.__file__)"
    for name in ("tools.py", "helper.py"):
        (folder / name).unlink()
    (folder / "job.py").write_text("")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == f"{Path('modules.zip', 'deep', 'up.py')}\n"


def test_the_files_of_a_job():
    made = objects.config_map("mean", "team", "print(1)", {"a.py": b"x", "b/c.py": b""}, {"data.bin": b"\x00"})
    assert made["metadata"]["name"] == "mean-files"
    assert made["data"] == {"main.py": "print(1)"}
    assert base64.b64decode(made["binaryData"]["data.bin"]) == b"\x00"
    assert set(made["binaryData"]) == {"a.py", "data.bin", "modules.zip", "sitecustomize.py"}
    owner = objects.owned(made, {"apiVersion": "v", "kind": "WorkerJob", "metadata": {"name": "mean", "uid": "1"}})
    assert owner["metadata"]["ownerReferences"] == [
        {"apiVersion": "v", "kind": "WorkerJob", "name": "mean", "uid": "1"}
    ]


def test_driver_and_workers_import_the_same(folder):
    """Whatever the cluster has on its path itself."""
    script = (folder / "job.py").read_text()
    made = objects.config_map("mean", "team", "print(tools, deep.up.x)", objects.modules(folder / "job.py", script), {})
    (folder / "there").mkdir()
    for name, data in made["binaryData"].items():
        (folder / "there" / name).write_bytes(base64.b64decode(data))
    (folder / "there" / "job.py").write_text("")
    code = "import bare.inner, deep.up, tools, theirs; print(deep.up.x, theirs.z)"
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "theirs.py").write_text("z = 2\n")
    path = f"{folder / 'there'}:{folder / 'elsewhere'}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 2\n"


@pytest.mark.parametrize("packages", [True, False])
def test_the_driver_of_a_script(packages):
    job = objects.worker_job("mean", "team", {"engine": "dask"}, None, {}, ["x y"], packages, {})
    driver, cluster = job["spec"]["driver"], job["spec"]["clusterTemplate"]["spec"]
    assert (driver["code"], driver["args"]) == ({"configMap": "mean-files"}, ["x y"])
    assert cluster == {"engine": "dask", "code": {"configMap": "mean-files"}}
    assert ("command" in driver) == packages


def test_a_borrowed_cluster_is_left_as_it_is():
    job = objects.worker_job("mean", "team", None, "numbers", {}, [], False, {"activeDeadlineSeconds": 5})
    assert job["spec"] == {
        "driver": {"code": {"configMap": "mean-files"}},
        "activeDeadlineSeconds": 5,
        "clusterRef": {"name": "numbers"},
    }


def test_sizes():
    assert cluster_spec("dask", 3, "1", "2Gi")["replicas"] == 3
    assert cluster_spec("dask", (0, 8), "1", "2Gi")["autoscaling"] == {"minReplicas": 0, "maxReplicas": 8}


@pytest.mark.parametrize(("text", "size"), [("4", (4, None)), ("2..8", (2, 8)), ("0..1", (0, 1))])
def test_workers(text, size):
    assert sources.workers(text) == size


@pytest.mark.parametrize("text", ["", "-1", "2..1", "0..0", "1..1001", "1..", "a", "1...2", "1001"])
def test_what_is_no_number_of_workers(text):
    with pytest.raises(TriremeError, match="neither a number"):
        sources.workers(text)


@pytest.mark.parametrize(
    ("path", "name"), [("a/My_Job.py", "my-job"), ("3.py", "job-3"), ("__.py", "job"), ("x" * 60 + ".py", "x" * 40)]
)
def test_names_of_jobs(path, name):
    assert job_name(Path(path)) == name


def test_another_job_of_a_script_has_another_name():
    names = {fresh("x" * 60) for _ in range(10)}
    assert len(names) > 1
    assert max(map(len, names)) <= 45
