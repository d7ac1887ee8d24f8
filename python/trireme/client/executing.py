"""Commands in the containers of pods."""

from trireme.client.kube import Kube, refused
from trireme.errors import TooLate, TriremeError

_SECONDS = 20


def said(kube: Kube, pod: str, container: str, command: list[str]) -> str:
    """Run a command in a container, and return what it prints.

    Raises:
        TriremeError: it may not be run, fails, or takes longer than 20 s.
    """
    from kubernetes import client
    from kubernetes.client.exceptions import ApiException
    from kubernetes.stream import stream

    # The package swaps a method of its client while it connects: one of its own.
    core = client.CoreV1Api(client.ApiClient(kube.api.configuration))
    try:
        running = stream(
            core.connect_get_namespaced_pod_exec,
            pod,
            kube.namespace,
            container=container,
            command=command,
            stdout=True,
            stderr=True,
            _preload_content=False,
        )
    except ApiException as error:
        why = refused(error, kube.path("pods", pod, "exec"), kube.context)
        raise why or TriremeError(f"{pod}: {error.reason}") from None
    try:
        running.run_forever(timeout=_SECONDS)
        if running.is_open():
            raise TooLate(f"{pod}: {command[0]} takes longer than {_SECONDS} s")
        printed = running.read_stdout()
        if running.returncode:
            what = " ".join(f"{printed} {running.read_stderr()}".split())
            raise TriremeError(f"{pod}: {command[0]} ended with exit code {running.returncode}: {what}")
        return str(printed)
    finally:
        running.close()
