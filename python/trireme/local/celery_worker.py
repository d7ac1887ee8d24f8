"""A Celery worker with the settings that the chart gives one: settings as JSON, application, name, more arguments."""

import json
import sys
from pathlib import Path

from celery.app.utils import find_app

_DEFAULTS = {
    "broker_connection_retry_on_startup": True,
    "task_acks_late": True,
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
}


def main(settings: Path, name: str, host: str, *more: str) -> int:
    """Run the worker until it is told to leave."""
    app = find_app(name)
    app.conf.update({key: value for key, value in _DEFAULTS.items() if not app.conf.value_set_for(key)})
    app.conf.update(json.loads(settings.read_text()))
    arguments = ["worker", f"--hostname={host}", "--loglevel=WARNING", "--without-gossip", "--without-mingle", *more]
    return app.start(arguments) or 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
