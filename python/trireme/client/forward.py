"""Ports of this machine that lead into a cluster, to whichever pod serves there now."""

import queue
import socket
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType

from trireme.client.kube import Forbidden, Kube, Object, Unauthorized, refused
from trireme.errors import TriremeError

_CHUNK = 65536
_HEAL_SECONDS = 60
_PAUSE_SECONDS = 0.5
_OPEN_SECONDS = 10
_MOST_BYTES = 4 * 2**20


class Forward:
    """A port on 127.0.0.1 that leads to a port of a Service.

    Each connection looks for a pod of the Service anew, and waits for one for a minute: so the port stays when pods
    go and others come, and heals where `kubectl port-forward` ends. Where the cluster refuses the user, that is told
    once on stderr, and connections are closed at once.

    Args:
        kube: the cluster.
        service: name of the Service.
        port: of the Service.
        local: port here; any free one if 0.
        quiet: whether nothing is told on stderr.

    Raises:
        TriremeError: the local port is taken.
    """

    def __init__(self, kube: Kube, service: str, port: int, local: int = 0, quiet: bool = False) -> None:
        self._kube, self._service, self._port = kube, service, port
        self._over = threading.Event()
        self._telling, self._told = threading.Lock(), quiet
        try:
            self._listener = socket.create_server(("127.0.0.1", local))
        except OSError as error:
            raise TriremeError(f"port {local} on this machine: {error.strerror}") from None
        threading.Thread(target=self._accept, name=f"forward {service}:{port}", daemon=True).start()

    @property
    def port(self) -> int:
        """The port here."""
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        """Host and port here."""
        return f"127.0.0.1:{self.port}"

    def fetch(self, path: str, seconds: float) -> bytes:
        """Return what is said there by HTTP, 4 MiB of it at most.

        Args:
            path: of what is wanted.
            seconds: to wait at most for each part of the answer.

        Raises:
            OSError: nothing, or not that.
        """
        import http.client

        # By itself, so that no proxy's variables matter.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"{self._service}:{self._port}{path}: HTTP {answer.status}")
            return answer.read(_MOST_BYTES)
        except http.client.HTTPException as error:
            raise OSError(f"{self._service}:{self._port}{path}: {error!r}") from None
        finally:
            connection.close()

    def close(self) -> None:
        """Listen no more."""
        self._over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> "Forward":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            remote = self._connect()
            if remote is None:
                return
            back = threading.Thread(target=_copy, args=(remote, client), daemon=True)
            back.start()
            _copy(client, remote)
            back.join()

    def _connect(self) -> "socket.socket | None":
        deadline = time.monotonic() + _HEAL_SECONDS
        while not self._over.is_set() and time.monotonic() < deadline:
            try:
                pod, port = self._target()
                if found := _opened(self._kube, pod, port):
                    return found
            except (Forbidden, Unauthorized) as error:
                self._tell(error)
                return None
            except Exception:
                # Whatever it was, a pod that is gone, a server that restarts: the next attempt finds out.
                self._over.wait(_PAUSE_SECONDS)
        return None

    def _target(self) -> tuple[str, int]:
        return target(self._kube, self._service, self._port)

    def _tell(self, error: TriremeError) -> None:
        with self._telling:
            if not self._told:
                print(f"error: forward to {self._service}:{self._port}: {error}", file=sys.stderr)
            self._told = True


class PodForward(Forward):
    """A port on 127.0.0.1 that leads to a port of one pod; as a Forward, with the pod's name for a Service's."""

    def _target(self) -> tuple[str, int]:
        return self._service, self._port


def _opened(kube: Kube, pod: str, port: int) -> "socket.socket | None":
    """Open a port of a pod; None if that takes too long: the package knows no timeout, and a kubelet may not answer."""
    from kubernetes import client
    from kubernetes.stream import portforward

    answer: queue.Queue[socket.socket | Exception] = queue.Queue()
    late = threading.Event()

    def connect() -> None:
        try:
            # The package swaps a method of its client while it connects: one for each.
            core = client.CoreV1Api(client.ApiClient(kube.api.configuration))
            made = portforward(core.connect_get_namespaced_pod_portforward, pod, kube.namespace, ports=str(port))
            # What came together with the answer waits in the TLS layer, where the package does not look until more
            # comes, such as a pong: Dask's scheduler speaks first, and then waits.
            made.websocket.ping()
            found: socket.socket = made.socket(port)
        except Exception as error:
            answer.put(refused(error, kube.path("pods", pod, "portforward"), kube.context) or error)
            return
        answer.put(found)
        if late.is_set():
            found.close()

    threading.Thread(target=connect, daemon=True).start()
    try:
        found = answer.get(timeout=_OPEN_SECONDS)
    except queue.Empty:
        late.set()
        return None
    if isinstance(found, Exception):
        raise found
    return found


def target(kube: Kube, service: str, port: int) -> tuple[str, int]:
    """Return the pod and its port that a Service's port leads to now; a ready one if there is one.

    Raises:
        TriremeError: there is no such Service or port, or no pod runs.
    """
    spec = kube.get("services", service)["spec"]
    selector = ",".join(f"{key}={value}" for key, value in spec.get("selector", {}).items())
    pods = [pod for pod in kube.list("pods", selector) if is_running(pod)]
    if not pods:
        raise TriremeError(f"no pod of Service {service} runs")
    wanted = next((one for one in spec["ports"] if one["port"] == port), None)
    if wanted is None:
        raise TriremeError(f"Service {service} has no port {port}")
    pod = max(pods, key=is_ready)
    return pod["metadata"]["name"], _container_port(pod, wanted.get("targetPort", port))


def _container_port(pod: Object, wanted: int | str) -> int:
    if isinstance(wanted, int):
        return wanted
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    found = next((port["containerPort"] for port in ports if port.get("name") == wanted), None)
    if found is None:
        raise TriremeError(f"pod {pod['metadata']['name']} has no port {wanted}")
    return int(found)


def is_running(pod: Object) -> bool:
    """Tell whether a pod runs and is not about to go."""
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def is_ready(pod: Object) -> bool:
    """Tell whether a pod is ready."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
