"""Settings: flags, or environment variables of the same names."""

import argparse
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from trireme_operator.api import Object


@dataclass(frozen=True)
class Settings:
    """How an operator runs.

    Args:
        namespace: the only namespace that it looks after; None for all.
        own_namespace: where it runs and keeps its Lease.
        identity: its name among its replicas.
        charts: folder of the engine charts.
        helm: the helm command to render with; empty to render in process.
        registry: where the engines' images are, for clusters that name none; empty for the charts' own names.
        metrics_from: who may read the metrics of all clusters, as in the `from` of a NetworkPolicy.
        port: of metrics and health.
        workers: reconciles side by side.
        leader_election: whether to wait for the Lease; off for one operator on a desk.
        log_level: of the standard library's names.
    """

    namespace: str | None
    own_namespace: str
    identity: str
    charts: Path
    helm: str
    registry: str
    metrics_from: list[Object]
    port: int
    workers: int
    leader_election: bool
    log_level: str


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def _level(text: str) -> str:
    if text not in _LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(_LEVELS)}")
    return text


def _peers(text: str) -> list[Object]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from error
    if not isinstance(found, list) or not all(isinstance(peer, dict) for peer in found):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of peers, as in the `from` of a NetworkPolicy")
    return found


def parse(arguments: list[str], environment: dict[str, str] | None = None) -> Settings:
    """Read the settings; an error ends the program as argparse does."""
    env = dict(os.environ) if environment is None else environment

    def default(name: str, otherwise: str) -> str:
        return env.get(f"TRIREME_{name}", otherwise)

    parser = argparse.ArgumentParser(
        prog="trireme-operator", description="Reconciles WorkerClusters, WorkerGroups and WorkerJobs."
    )
    parser.add_argument("--namespace", default=default("NAMESPACE", ""), help="the only namespace to look after")
    parser.add_argument(
        "--own-namespace", default=default("OWN_NAMESPACE", "trireme-system"), help="where the lease is"
    )
    parser.add_argument("--identity", default=default("IDENTITY", socket.gethostname()), help="unique among replicas")
    parser.add_argument("--charts", type=Path, default=default("CHARTS", "/opt/trireme/charts"), help="engine charts")
    parser.add_argument("--helm", default=default("HELM", ""), help="command to render with, instead of in process")
    parser.add_argument("--registry", default=default("REGISTRY", ""), help="of the engines' images by default")
    parser.add_argument(
        "--metrics-from",
        type=_peers,
        default=default("METRICS_FROM", "[]"),
        help="who may read clusters' metrics, as the `from` of a NetworkPolicy in JSON",
    )
    parser.add_argument("--port", type=int, default=default("PORT", "8080"), help="of /metrics, /healthz and /readyz")
    parser.add_argument("--workers", type=int, default=default("WORKERS", "8"), help="reconciles side by side")
    parser.add_argument(
        "--leader-election",
        action=argparse.BooleanOptionalAction,
        default=default("LEADER_ELECTION", "true"),
        help="wait for the lease",
    )
    parser.add_argument("--log-level", default=default("LOG_LEVEL", "INFO"), type=_level, help=", ".join(_LEVELS))
    found = parser.parse_args(arguments)
    if str(found.leader_election).lower() not in ("true", "false"):
        parser.error(f"TRIREME_LEADER_ELECTION: {found.leader_election!r} is neither true nor false")
    return Settings(
        namespace=found.namespace or None,
        own_namespace=found.own_namespace,
        identity=found.identity,
        charts=found.charts,
        helm=found.helm,
        registry=found.registry.rstrip("/"),
        metrics_from=found.metrics_from,
        port=found.port,
        workers=found.workers,
        leader_election=str(found.leader_election).lower() == "true",
        log_level=found.log_level,
    )
