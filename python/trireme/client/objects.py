"""What is created for a script: a WorkerJob, and a ConfigMap with what goes along."""

import ast
import base64
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from trireme import requirements as installing
from trireme.errors import TriremeError

Object = dict[str, Any]
API_VERSION = "trireme.dev/v1alpha1"
JOB_LABEL = "trireme.dev/job"
MODULES = "modules.zip"
MAX_BYTES = 1_000_000
"""Of all files together: an object in etcd is 1 MiB at most (ConfigMap's own limit), and the rest is metadata."""

_ADD_MODULES = f"""\
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).with_name("{MODULES}")))
"""
# Where the operator mounts the driver's files.
_PROGRAM = "/opt/trireme/script"
KEEP_SECONDS = 3600
"""How long a script's job stays when it has ended: its logs can still be read, and nobody looks after it."""
_EARLIEST = (1980, 1, 1, 0, 0, 0)


def modules(script: Path, text: str, also: Sequence[str] = ()) -> dict[str, bytes]:
    """Return the files of the modules beside a script that it imports, and those that they import in turn.

    Args:
        script: its path.
        text: of it.
        also: names of further modules.

    Returns:
        Paths relative to the script's folder, and what is in them.
    """
    folder, found = script.parent, dict[str, bytes]()
    waiting = [*_imports(text, ""), *also]
    while waiting:
        for path in _files(folder, waiting.pop()):
            name = path.relative_to(folder).as_posix()
            if name in found or path == script:
                continue
            found[name] = path.read_bytes()
            if path.suffix == ".py":
                package = ".".join(path.relative_to(folder).parts[:-1])
                try:
                    waiting += _imports(found[name].decode(), package)
                except (SyntaxError, ValueError) as error:
                    raise TriremeError(f"{path}: {error}") from None
    return dict(sorted(found.items()))


def _imports(text: str, package: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}".strip(".") for alias in node.names)


def _files(folder: Path, module: str) -> Iterator[Path]:
    """Find a dotted name's module and the packages around it; its last part may be no module at all."""
    place = folder
    for part in module.split("."):
        if (place / part).is_dir() and any((place / part).glob("*.py")):
            place = place / part
            if (place / "__init__.py").is_file():
                yield place / "__init__.py"
        else:
            if (place / f"{part}.py").is_file():
                yield place / f"{part}.py"
            return


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return an archive that Python imports from; the same for the same files."""
    # A package without __init__.py is found by its folder's own entry.
    folders = {f"{parent.as_posix()}/" for name in files for parent in PurePosixPath(name).parents if parent.name}
    entries = {**dict.fromkeys(sorted(folders), b""), **files}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name, _EARLIEST), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def job_name(script: Path) -> str:
    """Return a name for a script's job, by the rules for names of objects."""
    name = re.sub(r"[^a-z0-9]+", "-", script.stem.lower()).strip("-")[:40].strip("-")
    return name if name[:1].isalpha() else f"job-{name}".strip("-")


def config_map(
    name: str,
    namespace: str,
    script: str,
    own: Mapping[str, bytes],
    files: Mapping[str, bytes],
    requirements: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Object:
    """Return the ConfigMap with a script as main.py, its modules and further files as they are, packages in an archive.

    Args:
        name: of the job.
        namespace: where.
        script: the program.
        own: its modules.
        files: further files.
        requirements: packages that every Python of the cluster installs, and of the driver.
        variables: pip's.

    Raises:
        TriremeError: all that is too large.
    """
    plain = {path: content for path, content in own.items() if "/" not in path}
    packages = {path: content for path, content in own.items() if "/" in path}
    binary = {**plain, **files}
    # Python runs this at its start, from where workers have their code.
    at_start = ""
    if packages:
        # A ConfigMap has no folders.
        binary[MODULES] = zipped(packages)
        at_start = _ADD_MODULES
    if requirements:
        wanted = {"requirements": [*requirements], "variables": dict(variables or {})}
        binary["trireme_requirements.py"] = Path(installing.__file__).read_bytes()
        binary[installing.WANTED] = json.dumps(wanted).encode()
        at_start += "\nimport trireme_requirements\n\ntrireme_requirements.activate()\n"
    if at_start:
        binary["sitecustomize.py"] = at_start.encode()
    size = len(script.encode()) + sum(map(len, binary.values()))
    if size > MAX_BYTES:
        sizes = {"the script": len(script.encode()), **{key: len(data) for key, data in binary.items()}}
        largest = max(sizes, key=lambda key: sizes[key])
        raise TriremeError(
            f"the script and its files are {size / 1e6:.1f} MB, the most of it {largest}, and"
            f" {MAX_BYTES / 1e6:.0f} MB fits into a ConfigMap: put code into an image (--image),"
            " and data into storage that workers read"
        )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-files", "namespace": namespace, "labels": {JOB_LABEL: name}},
        "data": {"main.py": script},
        "binaryData": {key: base64.b64encode(data).decode() for key, data in binary.items()},
    }


def worker_job(
    name: str,
    namespace: str,
    cluster: Object | None,
    borrowed: str | None,
    driver: Object,
    args: Sequence[str],
    has_packages: bool,
    more: Object,
) -> Object:
    """Return the WorkerJob that runs a script from its ConfigMap.

    Args:
        name: of the job.
        namespace: where.
        cluster: spec of a cluster of its own.
        borrowed: or the name of one that is there.
        driver: spec of the driver, but for its program.
        args: of the script.
        has_packages: whether there is an archive of packages.
        more: further fields of the job's spec.
    """
    files = f"{name}-files"
    driver = {**driver, "code": {"configMap": files}, **({"args": [*args]} if args else {})}
    if has_packages:
        # A variable of its own would hide the path that the cluster's drivers have.
        driver["command"] = ["sh", "-c", f'PYTHONPATH={_PROGRAM}/{MODULES}:$PYTHONPATH exec python main.py "$@"', "sh"]
    spec: Object = {"driver": driver, **more}
    if borrowed:
        spec["clusterRef"] = {"name": borrowed}
    else:
        assert cluster is not None
        spec["clusterTemplate"] = {"spec": {**cluster, "code": {"configMap": files}}}
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkerJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def owned(item: Object, job: Object) -> Object:
    """Return an object that goes when a job goes."""
    owner = {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
    }
    return {**item, "metadata": {**item["metadata"], "ownerReferences": [owner]}}
