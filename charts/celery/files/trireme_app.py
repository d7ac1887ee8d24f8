"""The application with the chart's settings, as workers run it."""

import json
import os
from pathlib import Path

from celery import Celery
from celery.app.utils import find_app

# Of the workers: none for a cluster's own.
GROUP = os.environ.get("TRIREME_GROUP", "")
CONF = Path(os.environ.get("TRIREME_CONF_DIR", "/opt/trireme/conf"))


def load(name: str) -> Celery:
    """Import an application, as `celery -A` does.

    The chart's defaults are set where it says nothing itself, and the chart's settings over all.
    """
    app = find_app(name)
    defaults = json.loads((CONF / "defaults.json").read_text())
    if app.connection_for_read().transport_cls == "redis":
        # Redis alone can fetch no task before a process is free.
        defaults["worker_disable_prefetch"] = True
    app.conf.update({key: value for key, value in defaults.items() if not app.conf.value_set_for(key)})
    app.conf.update(json.loads((CONF / "config.json").read_text()))
    if GROUP and app.connection_for_read().transport_cls == "redis":
        app.conf.broker_transport_options = {**app.conf.broker_transport_options, **unacked_keys(GROUP)}
    return app


def unacked_keys(group: str) -> dict[str, str]:
    """Return kombu's options by which what the workers of a group hold on Redis is noted apart from what others hold.

    So it is known whose work it is; of a cluster's own workers, whose group has no name, these are kombu's defaults.
    """
    end = f".{group}" if group else ""
    return {f"{name}_key": f"{name}{end}" for name in ("unacked", "unacked_index", "unacked_mutex")}
