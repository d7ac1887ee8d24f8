"""What the dashboard and the alerts ask of Prometheus, for the tests that look whether it is there."""

import json
import re

import yaml

from on_cluster import TOP

FILES = TOP / "charts" / "trireme" / "files"
# Ours, and those of the engines; what stands between braces or in `by (…)` is no metric.
_METRIC = re.compile(r"\b(?:trireme|dask|celery|metrics|process)_[a-zA-Z0-9_]+\b")
_LABELS = re.compile(r"\{[^}]*\}|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")


def rules():
    """Return the alert rules, by name."""
    groups = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def dashboard():
    return json.loads((FILES / "dashboard.json").read_text())


def panels():
    """Return the queries of each panel, by title."""
    return {
        f"{panel['title']} {panel['id']}": [target["expr"] for target in panel["targets"]]
        for panel in dashboard()["panels"]
        if "targets" in panel
    }


def metrics_of(expression):
    """Return the names of metrics in a PromQL expression."""
    return set(_METRIC.findall(_LABELS.sub("", expression)))


def asked():
    """Return every metric that is asked for."""
    expressions = [rule["expr"] for rule in rules().values()]
    expressions += [query for queries in panels().values() for query in queries]
    return set().union(*map(metrics_of, expressions))
