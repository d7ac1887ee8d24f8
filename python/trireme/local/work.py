"""What is to be run: a WorkerJob and what it names, found in a manifest or made of options."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trireme.errors import TriremeError

Object = dict[str, Any]
ENGINES = ("dask", "spark", "celery")
# As the API server takes keys: each becomes a file of a folder, and of no other.
_KEY = re.compile(r"(?!\.$|\.\.)[-._a-zA-Z0-9]+", re.ASCII)


@dataclass(frozen=True)
class Work:
    """One job for this machine.

    Args:
        name: of the job.
        cluster: spec of its WorkerCluster.
        program: the driver's files by name, for a folder of their own; empty where `script` is given.
        code: the workers' files by name, for PYTHONPATH.
        command: of the driver; main.py is run if None.
        args: of the driver.
        env: variables of the driver.
        worker_env: variables of the workers.
        driver_memory: the driver's memory limit as written, if it has one.
        deadline: seconds that the driver may take.
        script: a program that is run where it is, instead of files.
        requirements: packages that are installed for it.
    """

    name: str
    cluster: Object
    program: Mapping[str, bytes] = field(default_factory=dict)
    code: Mapping[str, bytes] = field(default_factory=dict)
    command: Sequence[str] | None = None
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    worker_env: Mapping[str, str] = field(default_factory=dict)
    driver_memory: str | None = None
    deadline: float | None = None
    script: Path | None = None
    requirements: Sequence[str] = ()

    @property
    def engine(self) -> str:
        """Name of the engine."""
        return str(self.cluster["engine"])


class Manifest:
    """The objects of a manifest, by kind and name."""

    def __init__(self, documents: Iterable[Object | None], source: str) -> None:
        self._objects: dict[tuple[str, str], Object] = {}
        self._source = source
        for number, document in enumerate(documents, 1):
            if document is None:
                continue
            try:
                self._objects[document["kind"], document["metadata"]["name"]] = document
            except (KeyError, TypeError):
                raise TriremeError(f"{source}: document {number} has no kind or no metadata.name") from None

    def jobs(self) -> list[Work]:
        """Return the work of every WorkerJob, in the manifest's order.

        Raises:
            TriremeError: there is none, or one needs something that is not in the manifest.
        """
        found = [self._work(item) for (kind, _), item in self._objects.items() if kind == "WorkerJob"]
        if not found:
            raise TriremeError(f"{self._source}: there is no WorkerJob in it")
        return found

    def _work(self, job: Object) -> Work:
        name = job["metadata"]["name"]
        where = f"{self._source}: WorkerJob {name}"
        try:
            cluster, driver = self._cluster(job["spec"], where), job["spec"]["driver"]
            engine = cluster["engine"]
        except (KeyError, TypeError) as error:
            raise TriremeError(f"{where}: spec has no {error.args[0] if error.args else 'driver'}") from None
        if engine not in ENGINES:
            raise TriremeError(f"{where}: engine {engine!r} is none of {', '.join(ENGINES)}")
        if "script" in driver:
            program = {"main.py": str(driver["script"]).encode()}
        else:
            program = self._files(driver.get("code", {}).get("configMap"), f"{where}: spec.driver.code.configMap")
        if "command" not in driver and "main.py" not in program:
            raise TriremeError(f"{where}: spec.driver has no script, no command, and no code with a main.py")
        return Work(
            name=name,
            cluster=cluster,
            program=program,
            code=self._files(cluster.get("code", {}).get("configMap"), f"{where}: code.configMap of its cluster"),
            command=driver.get("command"),
            args=[str(word) for word in driver.get("args", [])],
            env=self._env(driver.get("env", []), f"{where}: spec.driver.env"),
            worker_env=self._env(cluster.get("env", []), f"{where}: env of its cluster"),
            driver_memory=driver.get("resources", {}).get("limits", {}).get("memory"),
            deadline=job["spec"].get("activeDeadlineSeconds"),
        )

    def _cluster(self, spec: Object, where: str) -> Object:
        if "clusterTemplate" in spec:
            return dict(spec["clusterTemplate"]["spec"])
        name = spec["clusterRef"]["name"]
        cluster = self._objects.get(("WorkerCluster", name))
        if cluster is None:
            raise TriremeError(
                f"{where}: spec.clusterRef.name: there is no WorkerCluster {name} in the manifest:"
                " put it there, or run without --local"
            )
        return dict(cluster["spec"])

    def _files(self, name: str | None, field: str) -> dict[str, bytes]:
        if not name:
            return {}
        found = self._objects.get(("ConfigMap", name))
        if found is None:
            raise TriremeError(f"{field}: there is no ConfigMap {name} in the manifest: put it there")
        return contents(found)

    def _env(self, variables: Sequence[Object], field: str) -> dict[str, str]:
        return {variable["name"]: self._value(variable, field) for variable in variables}

    def _value(self, variable: Object, field: str) -> str:
        if "valueFrom" not in variable:
            return str(variable.get("value", ""))
        for kind, source in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
            reference = variable["valueFrom"].get(source)
            item = reference and self._objects.get((kind, reference.get("name")))
            if item:
                found = contents(item).get(reference.get("key"))
                if found is not None:
                    return _text(found, f"{field}: {variable['name']}")
        raise TriremeError(
            f"{field}: {variable['name']} comes from something that is not in the manifest:"
            " put that there, or give the variable a value"
        )


def _text(content: bytes, field: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise TriremeError(f"{field}: what it comes from is no text in UTF-8") from None


def contents(item: Object) -> dict[str, bytes]:
    """Return the keys of a ConfigMap or Secret as files.

    Raises:
        TriremeError: one is no name of a file, or no base64.
    """
    import base64

    encoded = item.get("binaryData") or {}
    plain = {**(item.get("data") or {})}
    if item["kind"] == "Secret":
        encoded, plain = plain, item.get("stringData") or {}
    for name in (*encoded, *plain):
        if not _KEY.fullmatch(str(name)):
            raise TriremeError(
                f"{item['kind']} {item['metadata']['name']}: key {name!r}: use letters, digits, '-', '_' and '.',"
                " and no two dots at its beginning"
            )
    files: dict[str, bytes] = {}
    for name, text in encoded.items():
        try:
            files[name] = base64.b64decode(text)
        except ValueError as error:
            raise TriremeError(f"{item['kind']} {item['metadata']['name']}: {name} is no base64: {error}") from None
    return {
        **files,
        **{name: str(text).encode() for name, text in plain.items()},
    }
