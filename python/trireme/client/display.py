"""Clusters and jobs in notebooks."""

from html import escape

from trireme.client.kube import Object

_STYLE = "border-collapse:collapse;font-size:90%"


def table(title: str, rows: list[tuple[str, str]]) -> str:
    """Return a small table; whatever is in it is text."""
    cells = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(text)}</td></tr>'
        for name, text in rows
        if text
    )
    return f'<div><b>{escape(title)}</b><table style="{_STYLE}">{cells}</table></div>'


def conditions(item: Object) -> list[tuple[str, str]]:
    """Return a row for each condition that is so, or says why it is not."""
    return [
        (one["type"], f"{one['reason']}: {one['message']}")
        for one in item.get("status", {}).get("conditions", [])
        if one["status"] == "True" or one["type"] == "Ready"
    ]


def cluster(item: Object) -> str:
    """Return how a cluster is shown."""
    status, spec = item.get("status", {}), item["spec"]
    scaling = status.get("autoscaling", {})
    rows = [
        ("Engine", spec["engine"]),
        ("Workers", f"{status.get('readyReplicas', 0)} of {spec.get('replicas', 1)} ready"),
        ("Each offers", ", ".join(f"{name} {value}" for name, value in status.get("capacity", {}).items())),
        ("Work", scaling.get("demand", "")),
        ("Endpoints", ", ".join(one["url"] for one in status.get("endpoints", []))),
        *(conditions(item) or [("State", "not seen by an operator yet")]),
    ]
    return table(f"WorkerCluster {item['metadata']['name']}", rows)


def job(item: Object) -> str:
    """Return how a job is shown."""
    status = item.get("status", {})
    rows = [
        ("State", status.get("state", "WaitingForCluster")),
        ("Cluster", status.get("cluster", "")),
        ("Duration", status.get("duration", "")),
        *conditions(item),
        ("Output", status.get("output", "")),
    ]
    return table(f"WorkerJob {item['metadata']['name']}", rows)
