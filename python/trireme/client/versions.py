"""Whether what runs here goes with what runs in the workers."""

import platform
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from trireme.client import executing
from trireme.client.doctor import KINDS, Finding
from trireme.client.environment import Connection
from trireme.client.forward import Forward, is_running
from trireme.client.kube import Kube, Object
from trireme.client.logs import containers
from trireme.errors import TriremeError

if TYPE_CHECKING:
    from distributed import Client

# What is pickled here and read there; distributed's own check has more, in a table.
_MUST_MATCH = ("python", "dask", "distributed")
_SHOULD_MATCH = ("cloudpickle", "numpy", "pandas", "msgpack")
_CELERY_PACKAGES = ("celery", "kombu")
_OF_CELERY = ("python", *_CELERY_PACKAGES)
_SECONDS = 20
_MASTER_PORT = 8080
# As `celery report` and the pages of Spark's master have them.
_REPORTED = re.compile(r"\b(celery|kombu|py):([^\s]+)")
_SPARK_VERSION = re.compile(r'class="version\b[^>]*>\s*([^<\s]+)')
_FIX = "install the same here, or give the cluster an image with yours"
_FIX_OF_CELERY = f"for tasks that pickle: {_FIX}; JSON, which is Celery's default, does not mind"


def differences(here: Mapping[str, Any], there: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Return what differs so that work fails, and what may.

    Args:
        here: versions by package.
        there: the same of each worker, by its address.
    """
    return _differing(here, there, _MUST_MATCH), _differing(here, there, _SHOULD_MATCH)


def _differing(here: Mapping[str, Any], there: Mapping[str, Mapping[str, Any]], names: tuple[str, ...]) -> list[str]:
    found = []
    for name in names:
        own = here.get(name)
        others = sorted({str(versions[name]) for versions in there.values() if versions.get(name)})
        # What is missing on one side is not used there.
        if own and [other for other in others if minor(other) != minor(str(own))]:
            found.append(f"{name} {own} here, {' and '.join(others)} in the cluster")
    return found


def minor(version: str) -> str:
    """Return the part of a version within which pickles are read."""
    return ".".join(version.split(".")[:2])


def check_dask(client: "Client") -> None:
    """Compare with the scheduler and the workers.

    Raises:
        TriremeError: Python, dask or distributed are other ones there.

    Warns:
        UserWarning: other packages are.
    """
    import warnings

    must, should = _compared(client)
    if must:
        raise TriremeError(
            f"{'; '.join(must)}: what is sent between them could not be read: install the same here,"
            " or give the cluster an image with yours (image=)"
        )
    if should:
        warnings.warn(f"{'; '.join(should)}: install the same if work fails", stacklevel=3)


def compare(kube: Kube, name: str, plurals: Sequence[str] = KINDS) -> list[Finding]:
    """Look whether packages here go with a cluster's, where its engine is installed here, too, and answers.

    Args:
        kube: the namespace.
        name: of the cluster, or of a job that has one.
        plurals: of the kinds that it may be of.
    """
    look: dict[str, Callable[[Kube, Object], list[Finding]]] = {"dask": _dask, "spark": _spark, "celery": _celery}
    try:
        item = _cluster(kube, name, plurals)
        return look[item["spec"]["engine"]](kube, item) if item and _is_up(item) else []
    except Exception as error:
        # Each engine's client has errors of its own; whatever they are, what else was found is told.
        why = " ".join(str(error).split()) or type(error).__name__
        return [Finding(f"versions can't be compared: {why}", f"trireme logs {name}, or try again", error=False)]


def _cluster(kube: Kube, name: str, plurals: Sequence[str]) -> Object | None:
    found = kube.find("workerclusters", name) if "workerclusters" in plurals else None
    if found is None and "workerjobs" in plurals:
        used = (kube.find("workerjobs", name) or {}).get("status", {}).get("cluster")
        found = kube.find("workerclusters", used) if used else None
    return found


def _is_up(item: Object) -> bool:
    conditions = item.get("status", {}).get("conditions", [])
    return any(
        one["type"] == "Ready" and (one["status"] == "True" or one["reason"] == "NoWorkers") for one in conditions
    )


def _here(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _dask(kube: Kube, item: Object) -> list[Finding]:
    if not _here("distributed"):
        return []
    from distributed import Client

    with Connection(kube, item) as connection:
        client = Client(connection.env["DASK_SCHEDULER_ADDRESS"], timeout=_SECONDS)  # type: ignore[no-untyped-call]
        try:
            must, should = _compared(client)
        finally:
            client.close()  # type: ignore[no-untyped-call]
    return [*(Finding(one, _FIX) for one in must), *(Finding(one, _FIX, error=False) for one in should)]


def _celery(kube: Kube, item: Object) -> list[Finding]:
    here = _here(*_CELERY_PACKAGES)
    if not here:
        return []
    here["python"] = platform.python_version()
    from celery import Celery

    with Connection(kube, item) as connection:
        app = Celery(broker=connection.env["CELERY_BROKER_URL"], set_as_current=False)
        app.conf.broker_connection_timeout = _SECONDS
        answers = app.control.inspect(timeout=_SECONDS / 4).report() or {}
        app.close()
    return celery_findings(here, {name: str(one.get("ok", "")) for name, one in answers.items()})


def celery_findings(here: Mapping[str, str], reports: Mapping[str, str]) -> list[Finding]:
    """Tell what differs between Celery here and in the workers: messages are JSON, so that all of it may work.

    Args:
        here: versions by package, Python's among them.
        reports: what `celery report` says there, by worker.
    """
    there = {
        name: {{"py": "python"}.get(package, package): found for package, found in _REPORTED.findall(text)}
        for name, text in reports.items()
    }
    return [Finding(one, _FIX_OF_CELERY, error=False) for one in _differing(here, there, _OF_CELERY)]


def _spark(kube: Kube, item: Object) -> list[Finding]:
    connect = item["spec"].get("spark", {}).get("mode") == "connect"
    # Without Connect, nobody outside can use it.
    if not _spark_here() or not (connect or kube.inside):
        return []
    name = item["metadata"]["name"]
    with Forward(kube, f"{name}-master", _MASTER_PORT) as forward:
        page = forward.fetch("/", _SECONDS).decode(errors="replace")
    there = _SPARK_VERSION.search(page)
    found = spark_findings(_spark_here(), there[1], connect) if there else []
    try:
        return [*found, *python_findings(platform.python_version(), _python(kube, name))]
    except TriremeError as error:
        what = f"the version of Python in {name} is not known: {error}"
        return [*found, Finding(what, f"compare it with {platform.python_version()} here", error=False)]


def check_spark(kube: Kube, item: Object, there: str) -> None:
    """Compare with a Spark's workers, as far as they may be asked.

    Args:
        kube: where it is.
        item: its WorkerCluster.
        there: its version.

    Warns:
        UserWarning: Python or Spark are other ones there.
    """
    import warnings

    connect = item["spec"].get("spark", {}).get("mode") == "connect"
    found = spark_findings(_spark_here(), there, connect)
    # Who may connect may not be allowed to look into pods.
    with suppress(TriremeError):
        found += python_findings(platform.python_version(), _python(kube, item["metadata"]["name"]))
    for one in found:
        warnings.warn(f"{one.what}: {one.fix}", stacklevel=3)


def _spark_here() -> str:
    return next(iter(_here("pyspark", "pyspark-client").values()), "")


def _python(kube: Kube, name: str) -> str:
    """Ask a worker for the version of its Python, or the master, whose image is the workers'; nothing else tells it."""
    pods = kube.list("pods", f"app.kubernetes.io/part-of=trireme,app.kubernetes.io/instance={name}")
    parts = {pod["metadata"]["labels"].get("app.kubernetes.io/component"): pod for pod in pods if is_running(pod)}
    pod = parts.get("worker") or parts.get("master")
    if pod is None:
        return ""
    command = ["python3", "-c", "import platform; print(platform.python_version())"]
    return executing.said(kube, pod["metadata"]["name"], containers(pod)[0], command).strip()


def spark_findings(here: str, there: str, connect: bool) -> list[Finding]:
    """Tell whether a Spark here can use one there.

    Args:
        here: version of pyspark, or pyspark-client.
        there: version of the cluster.
        connect: whether by Spark Connect, whose servers take older clients; else both must be of one minor version.
    """
    what = f"pyspark {here} here, Spark {there} in the cluster"
    if not connect:
        return [Finding(what, _FIX)] if minor(here) != minor(there) else []
    mine, its = (tuple(map(int, re.findall(r"\d+", minor(one)))) for one in (here, there))
    if mine[:1] != its[:1]:
        return [Finding(what, _FIX)]
    return [Finding(f"{what}: it may lack what is newer", _FIX, error=False)] if mine > its else []


def python_findings(here: str, there: str) -> list[Finding]:
    """Tell whether Spark's workers run functions that are pickled here; data frames are of no Python.

    Args:
        here: version of Python.
        there: the workers'; empty if none is known.
    """
    differing = _differing({"python": here}, {"workers": {"python": there}}, ("python",))
    return [Finding(f"{one}: functions of yours (UDFs) fail", _FIX, error=False) for one in differing]


def _compared(client: "Client") -> tuple[list[str], list[str]]:
    found: Any = client.get_versions()
    there = {"scheduler": found["scheduler"], **found["workers"]}
    return differences(_packages(found["client"]), {name: _packages(one) for name, one in there.items() if one})


def _packages(said: Mapping[str, Any]) -> dict[str, Any]:
    packages = said.get("packages", {})
    return {**packages, "python": packages.get("python") or said.get("host", {}).get("python")}
