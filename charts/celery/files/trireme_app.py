"""The application with the chart's settings, as workers run it."""

import json
import os
from pathlib import Path

from celery import Celery
from celery.app.utils import find_app

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
    return app
