"""Clusters with all that listens, and the table of who may connect to what: for rendered charts, and on a cluster."""

from typing import Any

TINY = {"limits": {"cpu": "1", "memory": "384Mi"}, "requests": {"cpu": "20m", "memory": "64Mi"}}
JVM = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "20m", "memory": "256Mi"}}
PAIR = {"limits": {"cpu": "2", "memory": "768Mi"}, "requests": {"cpu": "20m", "memory": "128Mi"}}
SMALL = {"enabled": True, "resources": TINY}

CLUSTERS: dict[str, dict[str, Any]] = {
    "numbers": {
        "engine": "dask",
        "resources": PAIR,
        "replicas": 1,
        "dask": {"nworkers": 2, "scheduler": {"resources": TINY}},
    },
    "tables": {
        "engine": "spark",
        "resources": JVM,
        "replicas": 1,
        "spark": {"master": {"resources": TINY}},
        "values": {"history": {"enabled": True, "resources": JVM, "directory": "file:///tmp"}},
    },
    "remote": {
        "engine": "spark",
        "resources": JVM,
        "replicas": 1,
        "spark": {"mode": "connect", "master": {"resources": TINY}, "connect": {"resources": JVM}},
    },
    "tasks": {
        "engine": "celery",
        "resources": TINY,
        "replicas": 1,
        "code": {"configMap": "tasks"},
        "celery": {"app": "tasks", "broker": {"resources": TINY}, "flower": SMALL, "monitor": SMALL, "beat": SMALL},
    },
    "mails": {
        "engine": "celery",
        "resources": TINY,
        "autoscaling": {"minReplicas": 1, "maxReplicas": 1},
        "code": {"configMap": "tasks"},
        "celery": {
            "app": "tasks",
            "broker": {"type": "rabbitmq", "resources": {"limits": PAIR["limits"], "requests": TINY["requests"]}},
        },
    },
}
GROUPS: dict[str, dict[str, Any]] = {
    "numbers-more": {"clusterRef": {"name": "numbers"}, "resources": PAIR, "replicas": 1},
    "mails-more": {
        "clusterRef": {"name": "mails"},
        "resources": TINY,
        "replicas": 1,
        "celery": {"queues": ["letters"]},
    },
}

Place = tuple[str, str, int]
"""Cluster, component, port."""

OPERATOR: set[Place] = {
    ("numbers", "scheduler", 8787),
    ("tables", "master", 8080),
    ("tables", "driver", 4040),
    ("remote", "master", 8080),
    ("remote", "connect", 4040),
    ("tasks", "broker", 6379),
    ("mails", "monitor", 8787),
}
"""What the operator asks for demand."""

PROMETHEUS: set[Place] = {
    ("numbers", "scheduler", 8787),
    ("numbers", "worker", 8790),
    ("numbers", "worker", 8801),
    ("numbers", "group-worker", 8790),
    ("numbers", "group-worker", 8801),
    ("tables", "master", 8080),
    ("tables", "worker", 8081),
    ("tables", "driver", 4040),
    ("remote", "master", 8080),
    ("remote", "worker", 8081),
    ("remote", "connect", 4040),
    ("tasks", "monitor", 8787),
    ("mails", "monitor", 8787),
}
"""What serves metrics, and is read by those whom `metrics.from` names."""


def labels(cluster: str) -> dict[str, str]:
    """Return the labels by which a pod belongs to a cluster."""
    return {"app.kubernetes.io/instance": cluster, "app.kubernetes.io/part-of": "trireme"}
