"""Jobs on the cluster: submitted, followed, waited for."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from trireme.client import objects
from trireme.client.kube import AlreadyExists, Kube, NotFound, Object
from trireme.client.logs import Followers, containers, follow
from trireme.client.making import Made
from trireme.client.patience import Patience
from trireme.client.progress import TasksDone
from trireme.errors import TooLate, TriremeError
from trireme.requirements import is_requirement

_POLL_SECONDS = 1.0
_LAST_LINES_SECONDS = 10.0
_WORKERS_SECONDS = 1.0
# The count of tasks is told with all else that changes, and by itself no more often.
_COUNT_SECONDS = 10.0


class JobFailed(TriremeError):
    """A job failed; the message is its condition's."""


class Job:
    """A WorkerJob: like a `concurrent.futures.Future` of what its driver prints.

    Args:
        kube: where it is.
        item: the object as it was last seen.
    """

    def __init__(self, kube: Kube, item: Object) -> None:
        self.kube, self.item = kube, item

    @classmethod
    def get(
        cls, name: str, *, namespace: str | None = None, context: str | None = None, kubeconfig: str | None = None
    ) -> "Job":
        """Find a job that is there.

        Raises:
            NotFound: there is none of that name.
        """
        kube = Kube(kubeconfig, context, namespace)
        return cls(kube, kube.get("workerjobs", name))

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.item["metadata"]["name"])

    def refresh(self) -> "Job":
        """Look at it again.

        Raises:
            NotFound: it is gone, or another one has its name now.
        """
        found = self.kube.get("workerjobs", self.name)
        if found["metadata"]["uid"] != self.item["metadata"]["uid"]:
            raise NotFound(f"job {self.name} was deleted, and another one has its name")
        self.item = found
        return self

    @property
    def state(self) -> str:
        """What was last seen, in a word: WaitingForCluster, Starting, Running, Suspended, Complete or Failed."""
        return str(self.item.get("status", {}).get("state", "WaitingForCluster"))

    def done(self) -> bool:
        """Tell whether it has ended."""
        return self.refresh().state in ("Complete", "Failed")

    def running(self) -> bool:
        """Tell whether its driver runs."""
        return self.refresh().state == "Running"

    def result(self, timeout: float | None = None) -> str:
        """Wait for its end, and return the last lines that its driver printed.

        Args:
            timeout: seconds to wait at most.

        Raises:
            JobFailed: it failed.
            TooLate: it has not ended by then; a TimeoutError.
        """
        self._wait(timeout)
        if self.state == "Failed":
            raise JobFailed(self.failure() or "the job failed")
        return str(self.item["status"].get("output", ""))

    def exception(self, timeout: float | None = None) -> JobFailed | None:
        """Wait for its end, and return why it failed; None if it completed."""
        self._wait(timeout)
        return JobFailed(self.failure() or "the job failed") if self.state == "Failed" else None

    def _wait(self, timeout: float | None) -> None:
        deadline, patience = None if timeout is None else time.monotonic() + timeout, Patience()
        while True:
            with patience:
                if self.done():
                    return
            if deadline is not None and time.monotonic() > deadline:
                raise TooLate(f"job {self.name} has not ended after {timeout} s: it is {self.state}")
            time.sleep(_POLL_SECONDS)  # between two looks: a watch would end with each lost connection

    def failure(self) -> str | None:
        """Return why it failed, as last seen."""
        return next((str(one["message"]) for one in self.conditions() if one["type"] == "Failed"), None)

    def conditions(self) -> list[Object]:
        """Return its conditions, as last seen."""
        found: list[Object] = self.item.get("status", {}).get("conditions", [])
        return found

    def drivers(self) -> list[Object]:
        """Return its driver's pods, oldest first."""
        selector = f"{objects.JOB_LABEL}={self.name},app.kubernetes.io/component=driver"
        return sorted(self.kube.list("pods", selector), key=lambda pod: pod["metadata"]["creationTimestamp"])

    def workers(self) -> list[Object]:
        """Return the pods of its cluster's workers, those of groups among them."""
        cluster = self.item.get("status", {}).get("cluster")
        if not cluster:
            return []
        component = "app.kubernetes.io/component in (worker, group-worker)"
        return self.kube.list("pods", f"app.kubernetes.io/instance={cluster},{component}")

    def logs(self, follow_on: bool = False) -> Iterator[str]:
        """Read what its drivers print.

        Args:
            follow_on: go on until the job has ended.
        """
        if not follow_on:
            for pod in self.drivers():
                yield from self.kube.lines(pod["metadata"]["name"])
            return
        seen: set[str] = set()
        patience = Patience()
        while True:
            over, pods = False, list[Object]()
            with patience:
                over, pods = self.done(), self.drivers()
            for pod in pods:
                name = pod["metadata"]["name"]
                if name not in seen and pod.get("status", {}).get("phase") != "Pending":
                    seen.add(name)
                    yield from follow(self.kube, name, threading.Event(), "driver")
            if over:
                return
            time.sleep(_POLL_SECONDS)  # between two looks

    def exit_code(self) -> int:
        """Return its last driver's exit code; 1 if it failed without one."""
        if self.state == "Complete":
            return 0
        codes = [
            status["state"]["terminated"]["exitCode"]
            for pod in self.drivers()[-1:]
            for status in pod.get("status", {}).get("containerStatuses", [])
            if "terminated" in status.get("state", {})
        ]
        return int(codes[0]) if codes and codes[0] else 1

    def cancel(self) -> bool:
        """Delete it, and with it its cluster and its files; tell whether it was there."""
        with suppress(NotFound):
            self.refresh()
            self.kube.delete("workerjobs", self.name)
            return True
        return False

    def watch(
        self,
        say: Callable[[str], None],
        write: Callable[[str, str], None],
        write_worker: Callable[[str, str], None] | None = None,
    ) -> int:
        """Follow it to its end, across lost connections.

        Args:
            say: told in a line how it fares, whenever that changes.
            write: told the pod's name and a line that its driver printed.
            write_worker: the same of its cluster's workers; not followed if None.

        Returns:
            The driver's exit code.

        Raises:
            TriremeError: it was deleted, or the cluster did not answer for ten minutes.
        """
        followers = Followers(self.kube, write, lambda pod, error: say(f"{pod}: {error}"))
        workers = Followers(self.kube, write_worker or (lambda *_: None), lambda pod, error: say(f"{pod}: {error}"))
        patience, said, line = Patience(), "", ""
        counting, told, when = _Counting(self), "", 0.0
        # What a borrowed cluster's workers said before is not about this job.
        first = {"tailLines": "0"} if "clusterRef" in self.item["spec"] else None
        try:
            while True:
                code: int | None = None
                with patience:
                    self.refresh()
                    line = self.progress()
                    drivers = self.drivers()
                    followers.add(drivers, "driver")
                    if write_worker:
                        for pod in self.workers():
                            for container in containers(pod):
                                workers.add([pod], container, first)
                        first = None
                    counting.look(drivers)
                    code = self.exit_code() if self.state in ("Complete", "Failed") else None
                if patience.error:
                    line = f"{patience.error}: trying again"
                # What was done since it was asked last, nobody would know in the end.
                done = counting.words() if code is None else ""
                if line != said or (done != told and time.monotonic() > when + _COUNT_SECONDS):
                    say(", ".join(filter(None, (line, done))))
                    said, told, when = line, done, time.monotonic()
                if code is not None:
                    followers.finish(_LAST_LINES_SECONDS)
                    workers.finish(_WORKERS_SECONDS)
                    return code
                time.sleep(_POLL_SECONDS)  # between two looks
        finally:
            counting.close()

    def progress(self) -> str:
        """Return in a line how it fares, and its cluster."""
        parts = [f"{self.name}: {self.state}"]
        cluster = self.item.get("status", {}).get("cluster")
        found = self.kube.find("workerclusters", cluster) if cluster and self.state != "Complete" else None
        if found:
            parts.append(cluster_progress(found))
        trouble = next((one for one in self.conditions() if one["type"] == "DriverRunning"), None)
        if (
            self.state not in ("Running", "Complete", "Failed")
            and trouble
            and trouble["reason"] not in ("Starting", "Ended")
        ):
            parts.append(f"{trouble['reason']}: {trouble['message']}")
        if self.state == "Failed":
            parts.append(self.failure() or "")
        return ", ".join(filter(None, parts))

    def _repr_html_(self) -> str:
        from trireme.client.display import job

        with suppress(TriremeError):
            self.refresh()
        return job(self.item)

    def __repr__(self) -> str:
        return f"<Job {self.name}: {self.state}>"


class _Counting:
    """The tasks that a job has done, while its driver runs."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._tasks: TasksDone | None = None

    def look(self, drivers: list[Object]) -> None:
        """Begin to count once the driver runs; on a borrowed cluster before, for what was done until then."""
        borrowed = self._job.item["spec"].get("clusterRef", {}).get("name")
        name = borrowed or self._job.item.get("status", {}).get("cluster")
        runs = bool(drivers) and self._job.state == "Running"
        if self._tasks or not name or not (runs or borrowed):
            return
        cluster = self._job.kube.find("workerclusters", name)
        # Of Spark, the driver tells.
        if cluster and (runs or cluster["spec"]["engine"] != "spark"):
            self._tasks = TasksDone(self._job.kube, cluster, drivers[-1] if drivers else None, bool(borrowed))

    def words(self) -> str:
        """Return the count in words; empty as long as there is none."""
        count = self._tasks.count if self._tasks else None
        return f"{count} tasks done" if count else ""

    def close(self) -> None:
        """Count no more."""
        if self._tasks:
            self._tasks.close()


def cluster_progress(cluster: Object) -> str:
    """Return in a few words how a cluster fares."""
    status = cluster.get("status", {})
    words = f"{status.get('readyReplicas', 0)}/{cluster['spec'].get('replicas', 1)} workers"
    ready = next((one for one in status.get("conditions", []) if one["type"] == "Ready"), None)
    if ready and ready["status"] != "True" and ready["reason"] not in ("Starting", "NoWorkers"):
        words += f" ({ready['reason']}: {ready['message']})"
    demand = status.get("autoscaling", {}).get("demand")
    return f"{words}, {demand}" if demand else words


def create(
    kube: Kube,
    script: Path,
    *,
    name: str,
    cluster: Object | None = None,
    borrowed: str | None = None,
    driver: Object | None = None,
    args: Sequence[str] = (),
    files: Sequence[Path] = (),
    more: Object | None = None,
    requirements: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    dry_run: bool = False,
    made: Made | None = None,
) -> tuple[Job, list[Object]]:
    """Create a script's job, and its files.

    The job comes first and owns the files, so that nothing is left whenever this is interrupted.

    Args:
        kube: where.
        script: the program.
        name: of the job.
        cluster: spec of a cluster of its own.
        borrowed: or the name of one that is there.
        driver: spec of the driver, but for its program.
        args: of the script.
        files: further files that go along.
        more: further fields of the job's spec.
        requirements: packages that driver and workers install at their start.
        labels: of the job.
        dry_run: have the server check it all, and create nothing.
        made: where what is made is noted, for callers who may take it back.

    Returns:
        The job, and all that was made.

    Raises:
        TriremeError: the name is taken, something is invalid, or may not be made.
    """
    job, config = wanted(kube, script, name, cluster, borrowed, driver, args, files, more, requirements, labels)
    if borrowed and kube.find("workerclusters", borrowed) is None:
        raise NotFound(
            f"there is no WorkerCluster {borrowed} in namespace {kube.namespace}: create it, or leave out --cluster"
        )
    made = made or Made(kube)
    try:
        try:
            found = made.create("workerjobs", job, dry_run)
        except AlreadyExists:
            raise AlreadyExists(f"job {name} is there already: delete it, or choose another name by --name") from None
        config = kube.create("configmaps", config if dry_run else objects.owned(config, found), dry_run)
        return Job(kube, found), [found, config]
    except BaseException:
        made.take_back()
        raise


def wanted(
    kube: Kube,
    script: Path,
    name: str,
    cluster: Object | None,
    borrowed: str | None,
    driver: Object | None,
    args: Sequence[str],
    files: Sequence[Path],
    more: Object | None,
    requirements: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> tuple[Object, Object]:
    """Return the WorkerJob and the ConfigMap that `create` makes.

    Raises:
        TriremeError: a file is missing, has a syntax error, or is too large; or there are requirements for a cluster
            whose workers run already.
    """
    if requirements and borrowed:
        raise TriremeError(
            f"requirements are for a cluster of the job's own: the workers of {borrowed} run already, and take no"
            " packages: give that cluster an image that has them"
        )
    for text in requirements:
        if not is_requirement(text):
            raise TriremeError(f"requirement {text!r} names no package, such as polars>=1", 2)
    try:
        text = script.read_text()
        apps = [cluster["celery"]["app"].partition(":")[0]] if cluster and "celery" in cluster else []
        own = objects.modules(script, text, apps)
        extra = {path.name: path.read_bytes() for path in files}
    except SyntaxError as error:
        raise TriremeError(f"{script}:{error.lineno}:{error.offset}: {error.msg}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TriremeError(
            f"{getattr(error, 'filename', None) or script}: {getattr(error, 'strerror', error)}"
        ) from None
    pip = {one["name"]: one["value"] for one in (driver or {}).get("env", []) if one["name"].startswith("PIP_")}
    config = objects.config_map(name, kube.namespace, text, own, extra, requirements, pip)
    job = objects.worker_job(
        name, kube.namespace, cluster, borrowed, driver or {}, args, any("/" in path for path in own), more or {}
    )
    if labels:
        job["metadata"]["labels"] = dict(labels)
    return job, config


def fresh(name: str) -> str:
    """Return a name for one more job of a script."""
    return f"{name[:38].rstrip('-')}-{secrets.token_hex(3)[:5]}"


def submit(
    script: str | Path,
    *args: str,
    engine: str | None = None,
    workers: int | tuple[int, int] = (1, 4),
    cpu: str = "1",
    memory: str = "2Gi",
    cluster: str | None = None,
    name: str | None = None,
    image: str | None = None,
    app: str | None = None,
    files: Sequence[str | Path] = (),
    env: dict[str, str] | None = None,
    requirements: Sequence[str] = (),
    driver_cpu: str = "1",
    driver_memory: str = "1Gi",
    timeout: int | None = None,
    namespace: str | None = None,
    context: str | None = None,
    kubeconfig: str | None = None,
) -> Job:
    """Run a script as a job on the cluster; it is deleted an hour after its end.

    Args:
        script: path of the program.
        args: its arguments.
        engine: dask, spark or celery, for a cluster of its own.
        workers: how many; a pair lets the cluster grow and shrink between them.
        cpu: limit of a worker.
        memory: limit of a worker.
        cluster: name of a cluster that is there, instead of one of its own.
        name: of the job.
        image: of workers and driver.
        app: the Celery application, as for `celery -A`.
        files: further files that go along.
        env: variables of driver and workers.
        requirements: packages that they install at their start, as pip takes them; by PIP_INDEX_URL and others of env.
        driver_cpu: limit of the driver.
        driver_memory: limit of the driver.
        timeout: seconds that the driver may take.
        namespace: the context's if None.
        context: the kubeconfig's current one if None.
        kubeconfig: as kubectl finds it if None.

    Raises:
        TriremeError: something is missing, wrong or refused.
    """
    if (engine is None) == (cluster is None):
        raise TriremeError(
            "give either engine, for a cluster of the job's own, or cluster, the name of one that is there"
        )
    if engine == "celery" and not app:
        raise TriremeError("app is missing: the Celery application, as for `celery -A`")
    path = Path(script)
    variables = [{"name": key, "value": value} for key, value in (env or {}).items()]
    # A driver waits for workers most of the time.
    driver: Object = {
        "resources": {"limits": {"cpu": driver_cpu, "memory": driver_memory}, "requests": {"cpu": "100m"}}
    }
    if variables:
        driver["env"] = variables
    spec = None if engine is None else cluster_spec(engine, workers, cpu, memory, image, app, variables)
    job, _ = create(
        Kube(kubeconfig, context, namespace),
        path,
        name=name or fresh(objects.job_name(path)),
        cluster=spec,
        borrowed=cluster,
        driver=driver,
        args=args,
        files=[Path(file) for file in files],
        requirements=requirements,
        more={
            "ttlSecondsAfterFinished": objects.KEEP_SECONDS,
            **({"activeDeadlineSeconds": timeout} if timeout else {}),
        },
    )
    return job


def cluster_spec(
    engine: str,
    workers: int | tuple[int, int],
    cpu: str,
    memory: str,
    image: str | None = None,
    app: str | None = None,
    env: Sequence[dict[str, Any]] = (),
) -> Object:
    """Return the spec of a WorkerCluster.

    Raises:
        TriremeError: `workers` is neither a number nor a pair.
    """
    return {
        "engine": engine,
        **({"image": image} if image else {}),
        **_size(workers),
        "resources": {"limits": {"cpu": cpu, "memory": memory}},
        **({"env": [*env]} if env else {}),
        **({"celery": {"app": app}} if app else {}),
    }


def _size(workers: int | tuple[int, int]) -> Object:
    match workers:
        case bool():
            pass
        case int():
            return {"replicas": workers}
        case (int(least), int(most)):
            return {"autoscaling": {"minReplicas": least, "maxReplicas": most}}
    raise TriremeError(f"workers: {workers!r} is neither a number, such as 4, nor a pair, such as (2, 8)")
