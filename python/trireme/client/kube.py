"""Requests to one cluster's API, in JSON; what goes wrong is said in words that help."""

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trireme.errors import TriremeError

Object = dict[str, Any]

_GROUPS = {
    "workerclusters": "/apis/trireme.dev/v1alpha1",
    "workergroups": "/apis/trireme.dev/v1alpha1",
    "workerjobs": "/apis/trireme.dev/v1alpha1",
    "workercronjobs": "/apis/trireme.dev/v1alpha1",
    "deployments": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "selfsubjectaccessreviews": "/apis/authorization.k8s.io/v1",
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1",
}
_CLUSTER_WIDE = ("selfsubjectaccessreviews", "customresourcedefinitions", "nodes", "namespaces")
_VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}
_ASKED = re.compile(r" cannot ([a-z]+) resource ")
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TIMEOUT = (5, 30)
# A follower of logs looks anew where nothing was said for so long: the connection may have gone without a word.
_STREAM_TIMEOUT = (5, 60)


class ConnectionLost(TriremeError):
    """The API server does not answer, or no more, or can't just now."""


class NotFound(TriremeError):
    """There is no such object."""


class AlreadyExists(TriremeError):
    """There is an object of that name already."""


class Conflict(TriremeError):
    """The object is another one, or otherwise, than was meant."""


class Forbidden(TriremeError):
    """The user may not do that."""


class Unauthorized(TriremeError):
    """The cluster does not know the user."""


class Kube:
    """One namespace of one cluster: the kubeconfig's, or the one that this pod runs in.

    Args:
        kubeconfig: its path; as kubectl finds it if None.
        context: in it; the current one if None.
        namespace: the context's, or the pod's, if None.

    Raises:
        TriremeError: there is neither a kubeconfig nor a pod around.
    """

    def __init__(self, kubeconfig: str | None = None, context: str | None = None, namespace: str | None = None) -> None:
        from kubernetes import config

        in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
        self.inside = in_pod and not (kubeconfig or context or os.environ.get("KUBECONFIG"))
        with _readable():
            if self.inside:
                self.api, self.context = _in_pod(), "this pod's service account"
                found = _NAMESPACE_FILE.read_text() if _NAMESPACE_FILE.exists() else None
            else:
                file = kubeconfig or _named()
                with _complaints() as said:
                    self.api = config.new_client_from_config(config_file=file, context=context)
                known, active = config.list_kube_config_contexts(config_file=file)
                chosen = next((one for one in known if one["name"] == context), active)
                found, self.context = chosen["context"].get("namespace"), f"context {chosen['name']}"
                if said:
                    raise Unauthorized(
                        f"no credentials for {self.context}: {'; '.join(said)}:"
                        " log in again, or correct what its user has as exec in the kubeconfig"
                    )
        self.namespace: str = namespace or found or "default"

    def path(self, plural: str, name: str = "", sub: str = "", everywhere: bool = False) -> str:
        """Return where objects of a kind are, or one of them; those of all namespaces if `everywhere`."""
        where = "" if everywhere or plural in _CLUSTER_WIDE else f"/namespaces/{self.namespace}"
        parts = [f"{_GROUPS.get(plural, '/api/v1')}{where}/{plural}", name, sub]
        return "/".join(part for part in parts if part)

    def get(self, plural: str, name: str) -> Object:
        """Read an object.

        Raises:
            NotFound: there is none.
            TriremeError: it can't be read, and why.
        """
        return self.request("GET", self.path(plural, name))

    def find(self, plural: str, name: str) -> Object | None:
        """Read an object; None if there is none."""
        try:
            return self.get(plural, name)
        except NotFound:
            return None

    def list(self, plural: str, selector: str = "", everywhere: bool = False) -> list[Object]:
        """Read the objects of a kind that have some labels; of all namespaces if `everywhere`."""
        path = self.path(plural, everywhere=everywhere)
        found: list[Object] = self.request("GET", path, labelSelector=selector)["items"]
        return found

    def create(self, plural: str, item: Object, dry_run: bool = False) -> Object:
        """Create an object; only checked by the server if `dry_run`.

        Raises:
            AlreadyExists: the name is taken.
        """
        return self.request("POST", self.path(plural), item, **_writing(dry_run))

    def patch(self, plural: str, name: str, patch: Object) -> Object:
        """Change some fields of an object."""
        path = self.path(plural, name)
        return self.request("PATCH", path, patch, "application/merge-patch+json", fieldManager="trireme")

    def apply(self, plural: str, item: Object, dry_run: bool = False) -> Object:
        """Create an object, or make it so, by server-side apply.

        Raises:
            TriremeError: somebody else set one of the fields, or the object is invalid.
        """
        path = self.path(plural, item["metadata"]["name"])
        return self.request("PATCH", path, item, "application/apply-patch+yaml", **_writing(dry_run))

    def delete(self, plural: str, name: str, uid: str | None = None) -> None:
        """Delete an object, if it is there; with a `uid`, that one and no namesake."""
        wanted: Object = {"preconditions": {"uid": uid}} if uid else {}
        # A conflict is one with the uid.
        with suppress(NotFound, Conflict):
            self.request("DELETE", self.path(plural, name), {"propagationPolicy": "Background", **wanted})

    def lines(self, pod: str, **query: str) -> Iterator[str]:
        """Read the lines of a pod's log as they come.

        Raises:
            ConnectionLost: it broke off.
        """
        from urllib3.exceptions import HTTPError

        response = self._call("GET", self.path("pods", pod, "log"), None, query, timeout=_STREAM_TIMEOUT)
        rest = b""
        try:
            for chunk in response.stream(65536, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
        except HTTPError as error:
            raise ConnectionLost(f"the log of {pod} broke off: {error}") from None
        finally:
            response.release_conn()
        if rest:
            yield rest.decode(errors="replace")

    def request(
        self, method: str, path: str, body: Object | None = None, kind: str = "application/json", **query: str
    ) -> Object:
        """Ask the API server.

        Raises:
            TriremeError: it does not answer, or refuses; with what to do.
        """
        from urllib3.exceptions import HTTPError

        response = self._call(method, path, body, query, kind)
        try:
            found: Object = json.loads(response.data)
        except (HTTPError, ValueError) as error:
            raise self._lost(error) from None
        return found

    def _call(
        self,
        method: str,
        path: str,
        body: Object | None,
        query: dict[str, str],
        kind: str = "application/json",
        timeout: tuple[int, int] = _TIMEOUT,
    ) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json", "Content-Type": kind}
        try:
            return self.api.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=timeout,
            )
        except ApiException as error:
            raise explained(error.status, error.body or error.reason, method, path, self.context) from None
        except HTTPError as error:
            raise self._lost(getattr(error, "reason", None) or error) from None

    def _lost(self, why: object) -> ConnectionLost:
        return ConnectionLost(
            f"{self.api.configuration.host} ({self.context}) does not answer: {why}: is the cluster up?"
        )


def contexts(kubeconfig: str | None = None) -> list[str]:
    """Return the names of a kubeconfig's contexts.

    Raises:
        TriremeError: it can't be read.
    """
    from kubernetes import config

    with _readable():
        known, _ = config.list_kube_config_contexts(config_file=kubeconfig or _named())
        return [str(one["name"]) for one in known]


def _named() -> str | None:
    # The package looks at the variable once, when it is imported.
    return os.environ.get("KUBECONFIG")


@contextmanager
def _readable() -> Iterator[None]:
    import yaml
    from kubernetes import config

    try:
        yield
    except (config.ConfigException, OSError) as error:
        why = " ".join(str(error).split())
        raise TriremeError(
            f"no cluster: {why}: name a kubeconfig by --kubeconfig or KUBECONFIG, or run here by --local"
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError) as error:
        # What the package does with a file that is no YAML, no text, or of another shape.
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise TriremeError(
            f"no cluster: the kubeconfig can't be read: {why}:"
            " correct it, or name another by --kubeconfig or KUBECONFIG"
        ) from None


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what is logged as an error: the package does so where a credential plugin fails, and asks as nobody."""
    said: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(" ".join(record.getMessage().split()))

    collector = Collector(logging.ERROR)
    logging.getLogger().addHandler(collector)
    try:
        yield said
    finally:
        logging.getLogger().removeHandler(collector)


def _writing(dry_run: bool) -> dict[str, str]:
    # Strict: by itself the API server drops fields that it does not know.
    return {"fieldManager": "trireme", "fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}


def _in_pod() -> Any:
    from kubernetes import client, config

    configuration = client.Configuration()
    config.load_incluster_config(client_configuration=configuration)
    return client.ApiClient(configuration)


def explained(code: int, body: Any, method: str, path: str, context: str) -> TriremeError:
    """Return what to say of an answer that is none.

    Args:
        code: HTTP status.
        body: of the answer.
        method: of the request.
        path: of the request.
        context: how the cluster was found.
    """
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        said = json.loads(text)
        message, reason = str(said["message"]), said.get("reason")
    except (ValueError, KeyError, TypeError):
        message, reason = " ".join(text.split()), None
    namespace, resource, name = _place(path)
    where = f" in namespace {namespace}" if namespace else ""
    if code == 401:
        return Unauthorized(f"the cluster refuses the credentials of {context}: they may have expired: log in again")
    if code == 403 and "is forbidden: exceeded quota" not in message and "User " in message:
        # The server's own word: of a WebSocket it may ask for another verb than the method's.
        asked = _ASKED.search(message)
        verb = asked[1] if asked else _VERBS[method] if name or method != "GET" else "list"
        return Forbidden(
            f"no right to {verb} {resource}{where}: ask for a Role with that verb and resource ({message})"
        )
    if code == 404 and reason != "NotFound":
        return TriremeError(
            f"this cluster knows no {resource}: install Trireme there: helm install trireme charts/trireme"
        )
    if code == 404 and not name:
        # Of what a request makes there is nothing to find but the namespace.
        return NotFound(f"there is no namespace {namespace}: create it, or name another by --namespace")
    if code == 404:
        return NotFound(f"there is no {resource.removesuffix('s')} {name}{where}")
    if code == 409 and reason == "AlreadyExists":
        return AlreadyExists(f"{message}: delete it, or choose another name")
    if code == 409 and reason == "Conflict":
        return Conflict(message)
    if code == 400 and "unknown field" in message:
        return TriremeError(f"{message}: misspelt, or newer than the cluster's Trireme: upgrade that")
    said_so = message or f"{method} {path}: status {code}"
    # It is overloaded, or restarts, or what stands behind it does.
    return ConnectionLost(said_so) if code == 429 or code >= 500 else TriremeError(said_so)


def refused(error: BaseException, path: str, context: str) -> TriremeError | None:
    """Return what to say of a WebSocket's handshake that was answered by a status; None if it was not.

    Args:
        error: what the package raised.
        path: that was asked for.
        context: how the cluster was found.
    """
    # The package wraps it in errors of its own that have no status.
    why: BaseException | None = error
    while why and not hasattr(why, "status_code"):
        why = why.__context__
    status = getattr(why, "status_code", None)
    return explained(status, getattr(why, "resp_body", None), "GET", path, context) if isinstance(status, int) else None


def _place(path: str) -> tuple[str, str, str]:
    """Return the namespace, the kind and the name that a path is about."""
    words = path.strip("/").split("/")
    words = words[2:] if words[0] == "api" else words[3:]
    namespace = ""
    if len(words) > 2 and words[0] == "namespaces":
        namespace, words = words[1], words[2:]
    resource, name, sub = [*words, "", "", ""][:3]
    return namespace, f"{resource}/{sub}" if sub else resource, name
