"""The application with the chart's settings, as workers run it.

Drivers and beat have them, too: `CELERY_LOADER=trireme_app:Loader` has Celery read them wherever an application is
configured, so that no program has to know of them.
"""

import json
import os
import socket
import ssl
from pathlib import Path
from typing import Any

from celery import Celery
from celery.app.utils import find_app
from celery.loaders.app import AppLoader
from kombu import Connection

# Of the workers: none for a cluster's own.
GROUP = os.environ.get("TRIREME_GROUP", "")
CONF = Path(os.environ.get("TRIREME_CONF_DIR", "/opt/trireme/conf"))
# By default redis-py waits for as long as the kernel does, two minutes and more, for a pod that has gone: packets of a
# connection, and those that open one, go on to it after its Service has another one. In seconds, but for the last.
CONNECTING = {
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "socket_keepalive_options": {
        socket.TCP_KEEPIDLE: 5,
        socket.TCP_KEEPINTVL: 2,
        socket.TCP_KEEPCNT: 3,
        socket.TCP_USER_TIMEOUT: 10_000,
    },
}
# What Redis' and RabbitMQ's clients raise where a password is wrong.
_REFUSALS = ("AuthenticationError", "AccessRefused")
# By default, a broker that hangs would be waited for as long as it does.
TIMEOUTS = {
    "amqp": {"read_timeout": 5, "write_timeout": 5},
    "redis": {"socket_timeout": 5, "socket_connect_timeout": 5},
}
# As cert-manager writes a Secret: ca.crt, and for a broker that asks for them tls.crt and tls.key.
TLS = Path(os.environ.get("TRIREME_TLS_DIR", "/opt/trireme/tls"))


class Loader(AppLoader):
    """Celery's usual loader, which adds the chart's settings once an application has its own."""

    def __init__(self, app: Celery, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        app.on_after_configure.connect(lambda sender, **_: settle(sender), weak=False)


def load(name: str) -> Celery:
    """Import an application, as `celery -A` does, with the chart's settings."""
    app = find_app(name)
    # Again where the loader has done so: its module may have set more since.
    settle(app)
    return app


def settle(app: Celery) -> None:
    """Set the chart's defaults where an application says nothing itself, and the chart's settings over all."""
    defaults = json.loads((CONF / "defaults.json").read_text())
    if is_redis(app):
        # Redis alone can fetch no task before a process is free.
        defaults["worker_disable_prefetch"] = True
    # Where results are kept, two minutes by default: so long a task's process would wait for a pod that has gone.
    defaults |= {"redis_socket_timeout": 10, "redis_socket_connect_timeout": 5, "redis_socket_keepalive": True}
    defaults |= encrypted(str(app.connection_for_read().transport_cls), str(app.conf.result_backend or ""))
    app.conf.update({key: value for key, value in defaults.items() if not app.conf.value_set_for(key)})
    app.conf.update(json.loads((CONF / "config.json").read_text()))
    if is_redis(app):
        options = {**CONNECTING, **(app.conf.broker_transport_options or {})}
        app.conf.broker_transport_options = {**options, **unacked_keys(GROUP)} if GROUP else options
    elif app.connection_for_write().transport_cls in ("amqp", "amqps", "pyamqp"):
        # Otherwise a task is lost that is sent as the broker goes: it is written, and nobody reads it.
        app.conf.broker_transport_options = {"confirm_publish": True, **(app.conf.broker_transport_options or {})}


def unacked_keys(group: str) -> dict[str, str]:
    """Return kombu's options by which what the workers of a group hold on Redis is noted apart from what others hold.

    So it is known whose work it is; of a cluster's own workers, whose group has no name, these are kombu's defaults.
    """
    end = f".{group}" if group else ""
    return {f"{name}_key": f"{name}{end}" for name in ("unacked", "unacked_index", "unacked_mutex")}


def is_redis(app: Celery) -> bool:
    """Tell whether an application's broker is a Redis server."""
    return app.connection_for_read().transport_cls in ("redis", "rediss")


def connect(app: Celery, **options: Any) -> Connection:
    """Connect to the broker, at one attempt; with further options of its transport."""
    connection = app.connection_for_read()
    more = TIMEOUTS.get(connection.transport.driver_type, {})
    connection.transport_options = {**more, **connection.transport_options, **options}
    connection.ensure_connection(max_retries=1, interval_start=0)
    return connection


def refuses(error: BaseException | None) -> bool:
    """Tell whether a broker answers, but lets nobody in by the password that is known here.

    Args:
        error: what connecting to it raised.
    """
    while error is not None:
        if any(kind.__name__ in _REFUSALS for kind in type(error).__mro__):
            return True
        # Kombu has errors of its own, made from these.
        error = error.__cause__
    return False


def encrypted(transport: str, result_backend: str) -> dict[str, Any]:
    """Return Celery's settings for TLS, by which broker and result store have to be who they say they are.

    Without a certificate authority of their own it is the system's that say so; kombu by itself would ask nobody.
    What a URL says of that wins, with Celery as well.

    Args:
        transport: of the broker, as kombu calls it.
        result_backend: its URL.
    """
    files = {"ca_certs": TLS / "ca.crt", "certfile": TLS / "tls.crt", "keyfile": TLS / "tls.key"}
    options: dict[str, Any] = {name: str(path) for name, path in files.items() if path.exists()}
    options["cert_reqs"] = ssl.CERT_REQUIRED
    redis = {f"ssl_{name}": value for name, value in options.items()}
    found: dict[str, Any] = {}
    if transport.startswith("rediss"):
        found["broker_use_ssl"] = redis
    elif transport.startswith("amqps"):
        # py-amqp looks at the name only if it is told to; None stands for the host's.
        found["broker_use_ssl"] = {**options, "server_hostname": None}
    if result_backend.startswith("rediss"):
        found["redis_backend_use_ssl"] = redis
    return found
