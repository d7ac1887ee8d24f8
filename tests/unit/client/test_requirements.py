"""Packages beside what is installed, as pods and laptop mode install them; by the real pip."""

import base64
import os
import subprocess
import sys
import zipfile

import pytest

from trireme.cli import sources
from trireme.client import objects
from trireme.errors import TriremeError
from trireme.requirements import is_requirement


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A Python with a pip, as images have it."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A folder with one package, which says a word."""
    folder = tmp_path_factory.mktemp("index")
    with zipfile.ZipFile(folder / "oars-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("oars.py", "WORD = 'row'\n")
        wheel.writestr("oars-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: oars\nVersion: 1.0\n")
        wheel.writestr(
            "oars-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: a\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("oars-1.0.dist-info/RECORD", "")
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}


def pod(folder, requirements, variables):
    """Write what goes along to a pod, and return the environment of one."""
    found = objects.config_map("a", "team", "", {"pack/one.py": b"WORD = 'in'\n"}, {}, requirements, variables)
    (folder / "code").mkdir()
    (folder / "tmp").mkdir()
    for name, text in found["binaryData"].items():
        (folder / "code" / name).write_bytes(base64.b64decode(text))
    return {**os.environ, "PYTHONPATH": str(folder / "code"), "TMPDIR": str(folder / "tmp")}


def test_every_python_of_a_pod_finds_them_and_one_installs_them(python, index, tmp_path):
    env = pod(tmp_path, ["oars>=1"], index)
    words = [python, "-c", "import oars, pack.one; print(pack.one.WORD, oars.WORD)"]
    several = [subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in several] == ["in row\n"] * 3
    installed = (tmp_path / "tmp" / "trireme-requirements" / "done").stat().st_mtime_ns
    assert subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout == "in row\n"
    assert (tmp_path / "tmp" / "trireme-requirements" / "done").stat().st_mtime_ns == installed


def test_what_a_killed_container_left_is_made_anew(python, index, tmp_path):
    env = pod(tmp_path, ["oars"], index)
    (tmp_path / "tmp" / "trireme-requirements" / "lib").mkdir(parents=True)
    words = [python, "-c", "import oars; print(oars.WORD)"]
    assert subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout == "row\n"


@pytest.mark.parametrize("requirement", ["sails", "oars==2", "pip==1.0"])
def test_what_cannot_be_installed_ends_the_process(python, index, tmp_path, requirement):
    env = pod(tmp_path, [requirement], index)
    done = subprocess.run([python, "-c", "print('ran')"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {requirement} can't be installed:\n")
    assert "use an image, or an environment, of your own" in done.stderr


def test_an_image_without_pip_is_told_of(index, tmp_path):
    env = {**pod(tmp_path, ["oars"], index), "PATH": "/nowhere"}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    words = [str(tmp_path / "bare" / "bin" / "python"), "-c", ""]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "there is neither pip nor uv in " in done.stderr


def test_on_this_machine(python, index, tmp_path):
    """As laptop mode is installed by pip: in an environment that has one."""
    (tmp_path / "job.py").write_text("import oars; print(oars.WORD)")
    code = (
        "import sys\nfrom pathlib import Path\nfrom trireme.local import engines\nfrom trireme.local.run import run\n"
        "from trireme.local.work import Work\n"
        "engines.check, engines.start = lambda work: None, lambda *_: {}\n"
        "work = Work('a', {'engine': 'dask'}, script=Path('job.py').resolve(), requirements=['oars'], "
        f"env={index!r})\nsys.exit(run(work))"
    )
    env = {**os.environ, "PYTHONPATH": str(objects.__file__).rpartition("/trireme/")[0]}
    words = [python, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "row\n"), done.stderr


@pytest.mark.parametrize(
    ("text", "so"),
    [
        ("polars", True),
        ("polars>=1,<2", True),
        ("polars[all] == 1.2.*", True),
        ("polars ~= 1.0 ; python_version > '3.11'", True),
        ("mine @ https://example.org/mine-1.0-py3-none-any.whl", True),
        ("./mine.whl", False),
        ("mine @ file:///mine.whl", False),
        ("-r other.txt", False),
        ("--index-url=https://example.org", False),
        ("a b", False),
        ("", False),
    ],
)
def test_what_names_a_package(text, so):
    assert is_requirement(text) is so


def test_files_of_packages(tmp_path):
    (tmp_path / "some.txt").write_text("# what is needed\npolars>=1  # fast\n\nhttpx[http2]\n")
    assert sources.requirements((str(tmp_path / "some.txt"), "rich")) == ("polars>=1", "httpx[http2]", "rich")
    (tmp_path / "some.txt").write_text("-e .\n")
    with pytest.raises(TriremeError, match=r"'-e \.' names no package"):
        sources.requirements((str(tmp_path / "some.txt"),))
    with pytest.raises(TriremeError, match=r"gone\.txt: No such file"):
        sources.requirements((str(tmp_path / "gone.txt"),))
