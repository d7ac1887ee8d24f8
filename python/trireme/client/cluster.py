"""Clusters: made, found, connected to."""

import os
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from trireme.client.environment import Connection, celery_settings, spark_properties
from trireme.client.job import cluster_progress, cluster_spec
from trireme.client.kube import AlreadyExists, Kube, Object
from trireme.client.making import Made, remove
from trireme.client.patience import Patience
from trireme.errors import TooLate, TriremeError

if TYPE_CHECKING:
    from celery import Celery
    from distributed import Client
    from pyspark.sql import SparkSession

_POLL_SECONDS = 0.5
_READY_SECONDS = 300.0
_API_VERSION = "trireme.dev/v1alpha1"


class Cluster:
    """A WorkerCluster, made when it is entered and deleted when it is left.

    `Cluster.get` finds one that is there; leaving that only disconnects.

    Args:
        name: of the cluster.
        engine: dask, spark or celery.
        workers: how many; a pair lets it grow and shrink between them.
        cpu: limit of a worker.
        memory: limit of a worker.
        image: of the workers; the engine's own if None.
        app: the Celery application, as for `celery -A`.
        spec: further fields of the WorkerCluster's spec, over the others.
        namespace: the context's if None.
        context: the kubeconfig's current one if None.
        kubeconfig: as kubectl finds it if None; in a pod, the pod's own cluster.
    """

    def __init__(
        self,
        name: str,
        *,
        engine: str,
        workers: int | tuple[int, int] = (0, 4),
        cpu: str = "1",
        memory: str = "2Gi",
        image: str | None = None,
        app: str | None = None,
        spec: dict[str, Any] | None = None,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | None = None,
    ) -> None:
        self.kube = Kube(kubeconfig, context, namespace)
        self._own, self._made, self._making = True, False, Made(self.kube)
        self._connection: Connection | None = None
        self._clients: list[Any] = []
        self.item: Object = {
            "apiVersion": _API_VERSION,
            "kind": "WorkerCluster",
            "metadata": {"name": name, "namespace": self.kube.namespace},
            "spec": {**cluster_spec(engine, workers, cpu, memory, image, app), **(spec or {})},
        }

    @classmethod
    def get(
        cls, name: str, *, namespace: str | None = None, context: str | None = None, kubeconfig: str | None = None
    ) -> "Cluster":
        """Find a cluster that is there; it stays when this is left.

        Raises:
            NotFound: there is none of that name.
        """
        return cls.of(Kube(kubeconfig, context, namespace), name)

    @classmethod
    def of(cls, kube: Kube, name: str) -> "Cluster":
        """Find a cluster in a namespace.

        Raises:
            NotFound: there is none of that name.
        """
        found = cls.__new__(cls)
        found.kube, found.item = kube, kube.get("workerclusters", name)
        found._own, found._made, found._making = False, True, Made(kube)
        found._connection, found._clients = None, []
        return found

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.item["metadata"]["name"])

    @property
    def engine(self) -> str:
        """Its engine."""
        return str(self.item["spec"]["engine"])

    def create(self) -> "Cluster":
        """Make it.

        Raises:
            AlreadyExists: the name is taken.
        """
        try:
            self.item = self._making.create("workerclusters", self.item)
            self._made = True
        except AlreadyExists:
            raise AlreadyExists(
                f"cluster {self.name} is there already: use Cluster.get({self.name!r}), which has a delete(), too;"
                " or choose another name"
            ) from None
        except BaseException:
            self._making.take_back()
            raise
        return self

    def refresh(self) -> "Cluster":
        """Look at it again."""
        self.item = self.kube.get("workerclusters", self.name)
        return self

    def wait(self, timeout: float = _READY_SECONDS) -> "Cluster":
        """Wait until its engine answers; workers may still be on their way.

        Args:
            timeout: seconds to wait at most.

        Raises:
            TooLate: it does not by then; with what keeps it. A TimeoutError.
            TriremeError: it is not made yet, or deleted.
        """
        if not self._made:
            raise TriremeError(
                f"cluster {self.name} is not made: enter it by `with`, or call create() now and close() in the end;"
                f" Cluster.get({self.name!r}) finds one that is there"
            )
        deadline, patience = time.monotonic() + timeout, Patience()
        while True:
            with patience:
                self.refresh()
            ready = next(
                (one for one in self.item.get("status", {}).get("conditions", []) if one["type"] == "Ready"), None
            )
            # As for drivers: work waits in the engine until workers come.
            if not patience.error and ready and (ready["status"] == "True" or ready["reason"] == "NoWorkers"):
                return self
            if time.monotonic() > deadline:
                why = f"{ready['reason']}: {ready['message']}" if ready else "no operator has looked at it"
                why = str(patience.error or why)
                raise TooLate(f"cluster {self.name} is not ready after {timeout:.0f} s: {why}")
            time.sleep(_POLL_SECONDS)  # between two looks

    def connect(self) -> dict[str, str]:
        """Return the variables by which a program here finds the engine, by forwards that last until this is left."""
        if self._connection is None:
            self._connection = Connection(self.kube, self.wait().item)
        return dict(self._connection.env)

    def dask(self, check_versions: bool = True, **options: Any) -> "Client":
        """Return a `distributed.Client` of it.

        Args:
            check_versions: whether to compare Python and packages with the cluster's.
            options: the Client's own.

        Raises:
            TriremeError: it is no Dask, or Python or packages differ from the workers' too much.
            TooLate: its scheduler does not answer.
        """
        self._must_be("dask")
        from distributed import Client

        try:
            client = Client(self.connect()["DASK_SCHEDULER_ADDRESS"], **options)  # type: ignore[no-untyped-call]
        except OSError as error:
            if isinstance(error, TriremeError):
                raise
            raise TooLate(
                f"the scheduler of cluster {self.name} does not answer: {error}: trireme doctor {self.name}"
            ) from None
        self._clients.append(client)
        if check_versions:
            from trireme.client.versions import check_dask

            try:
                check_dask(client)
            except TriremeError:
                client.close()  # type: ignore[no-untyped-call]
                raise
        return client

    def spark(self, app: str = "trireme", check_versions: bool = True) -> "SparkSession":
        """Return a `SparkSession` on it: by Spark Connect where the cluster has that, else, in a pod, on its master.

        Args:
            app: name of the application.
            check_versions: whether to compare Python and Spark with the cluster's.

        Raises:
            TriremeError: it is no Spark, or there is no way to it from here.

        Warns:
            UserWarning: Python or Spark are other ones there.
        """
        self._must_be("spark")
        from pyspark.sql import SparkSession

        env = self.connect()
        builder = SparkSession.builder.appName(app)
        remote = env.get("SPARK_REMOTE")
        if remote:
            builder = builder.remote(remote)
        else:
            # The JVM that is about to start reads them.
            read = ("_SPARK_AUTH_SECRET", "SPARK_LOCAL_HOSTNAME")
            os.environ.update({key: env[key] for key in read if key in env})
            for key, value in spark_properties(self.kube, self.name).items():
                builder = builder.config(key, value)
        session: SparkSession = builder.getOrCreate()
        self._clients.append(_Stopping(session))
        if check_versions:
            from trireme.client.versions import check_spark

            check_spark(self.kube, self.item, session.version)
        return session

    def celery(self, app: "Celery | None" = None) -> "Celery":
        """Return a `Celery` application that sends its tasks to it, with the settings that workers and drivers have.

        Args:
            app: the user's own; a bare one if None, for `send_task`.
        """
        self._must_be("celery")
        from celery import Celery

        env = self.connect()
        found = app or Celery(self.name)
        # RabbitMQ's queues, for one, are refused to whoever declares them otherwise than the workers.
        defaults, settings = celery_settings(self.kube, self.name)
        found.conf.update({key: value for key, value in defaults.items() if not found.conf.value_set_for(key)})
        found.conf.update(settings)
        found.conf.broker_url = env["CELERY_BROKER_URL"]
        if "CELERY_RESULT_BACKEND" in env:
            found.conf.result_backend = env["CELERY_RESULT_BACKEND"]
        return found

    def _must_be(self, engine: str) -> None:
        if self.engine != engine:
            raise TriremeError(f"cluster {self.name} runs {self.engine}: use .{self.engine}()")

    def close(self) -> None:
        """Disconnect; delete it if it was made here.

        Raises:
            TriremeError: it may be left, and why.
        """
        try:
            for client in self._clients:
                # Each engine's client has errors of its own, and the cluster goes in any case.
                with suppress(Exception):
                    client.close()
            self._clients = []
            if self._connection:
                self._connection.close()
                self._connection = None
        finally:
            left = self._making.take_back()
            self._made = self._made and not self._own
        for what, error in left.items():
            raise TriremeError(f"{what} may be left: {error}")

    def delete(self) -> None:
        """Delete it."""
        remove(self.kube, "workerclusters", self.name, self.item["metadata"].get("uid"))
        self._made, self._making = False, Made(self.kube)

    def __enter__(self) -> "Cluster":
        try:
            if not self._made:
                self.create()
            return self.wait()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _repr_html_(self) -> str:
        from trireme.client.display import cluster

        # A notebook shows what was last seen, rather than a traceback.
        with suppress(TriremeError):
            self.refresh()
        return cluster(self.item)

    def __repr__(self) -> str:
        return f"<Cluster {self.name}: {self.engine}, {cluster_progress(self.item)}>"


class _Stopping:
    def __init__(self, session: "SparkSession") -> None:
        self._session = session

    def close(self) -> None:
        self._session.stop()
