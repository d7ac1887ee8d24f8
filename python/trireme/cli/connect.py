"""`trireme ui`, `connect` and `shell`: ways to an engine, through forwards that heal themselves."""

import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from trireme.cli.connection import Place, cluster_name, connection_options, names_of
from trireme.cli.output import write
from trireme.errors import TriremeError
from trireme.signals import ENDING

_DASHBOARDS = ("dashboard", "ui", "flower", "history")


@click.command()
@click.argument("name", callback=cluster_name, shell_complete=names_of("workerclusters"))
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port on this machine; any free one if left out."
)
@click.option("--browser/--no-browser", default=None, help="Whether to open a browser.  [default: in a terminal]")
@connection_options
def ui(place: Place, name: str, port: int, browser: bool | None) -> None:
    """Open a cluster's dashboard.

    It stays open until Ctrl-C, whatever becomes of the pod behind it.
    """
    from trireme.client.forward import Forward

    kube = place.kube()
    cluster = kube.get("workerclusters", name)
    url = dashboard(cluster)
    service, remote = str(url.hostname).partition(".")[0], url.port or 80
    with Forward(kube, service, remote, port) as forward:
        address = f"http://{forward.address}{url.path}"
        click.echo(address)
        if login := how_to_log_in(cluster):
            click.echo(login, err=True)
        if browser if browser is not None else os.isatty(1):
            click.launch(address)
        _until_interrupted()


def dashboard(cluster: dict[str, Any]) -> Any:
    """Return where a cluster's dashboard is.

    Raises:
        TriremeError: it has none.
    """
    endpoints = {one["name"]: one["url"] for one in cluster.get("status", {}).get("endpoints", [])}
    for name in _DASHBOARDS:
        if endpoints.get(name, "").startswith("http:"):
            return urlsplit(endpoints[name])
    name, engine = cluster["metadata"]["name"], cluster["spec"]["engine"]
    how = ": set spec.celery.flower.enabled to true" if engine == "celery" else ""
    raise TriremeError(f"cluster {name}, a {engine}, has no dashboard{how}")


def how_to_log_in(cluster: dict[str, Any]) -> str:
    """Return who may see a cluster's dashboard, and where the password is; empty where nobody asks for one."""
    if cluster["spec"]["engine"] != "celery":
        return ""
    metadata = cluster["metadata"]
    secret = cluster["spec"].get("values", {}).get("auth", {}).get("existingSecret") or f"{metadata['name']}-auth"
    return (
        f"log in as trireme; the password: kubectl get secret {secret} --namespace={metadata['namespace']}"
        " --output=go-template='{{.data.password | base64decode}}'"
    )


@click.command()
@click.argument("name", callback=cluster_name, shell_complete=names_of("workerclusters"))
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="How to print; for a shell if left out.")
@connection_options
def connect(place: Place, name: str, command: tuple[str, ...], output: str | None) -> int:
    """Run a command, or print the variables, that find a cluster's engine.

    With a command behind --, runs it with the variables set, and ends with it. Without one, prints them for a shell,
    and keeps the way open until Ctrl-C.
    """
    from trireme.client.cluster import Cluster

    if command and output:
        raise click.UsageError("--output goes with no command")
    with Cluster.of(place.kube(), name) as cluster:
        env = cluster.connect()
        if command:
            return _to_its_end(command, {**os.environ, **env})
        if output:
            write(env, output)
        else:
            for key, value in env.items():
                click.echo(f"export {key}={shlex.quote(value)}")
        if not cluster.kube.inside:
            click.echo("the way stays open until Ctrl-C", err=True)
            _until_interrupted()
    return 0


def _to_its_end(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a command until it ends by itself, and return its exit code, as a shell would tell it.

    Signals are for the command: those that a terminal sends reach it by themselves, others are handed on.

    Raises:
        TriremeError: there is no such command.
    """
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def hand_on(number: int, _: object) -> None:
        if not started:
            early.append(number)
        elif number != signal.SIGINT or not _in_foreground():
            started[0].send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in ENDING if signal.getsignal(number) != signal.SIG_IGN}
    try:
        started.append(subprocess.Popen(command, env=env))
        for number in early:
            started[0].send_signal(number)
        code = started[0].wait()
    except OSError as error:
        raise TriremeError(f"{command[0]}: {error.strerror}", 127) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _in_foreground() -> bool:
    """Tell whether a terminal's Ctrl-C goes to this process, and with it to its children."""
    try:
        with Path("/dev/tty").open("rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except (OSError, AttributeError):
        # There is no terminal; the latter is Windows, where Ctrl-C goes to all.
        return not hasattr(os, "tcgetpgrp")


@click.command()
@click.argument("name", callback=cluster_name, shell_complete=names_of("workerclusters"))
@connection_options
def shell(place: Place, name: str) -> None:
    """Open a Python prompt that is connected to a cluster.

    It knows `cluster`, and `client` for Dask, `spark` for Spark, `app` for Celery.
    """
    from trireme.client.cluster import Cluster

    with Cluster.of(place.kube(), name) as cluster:
        known: dict[str, Any] = {"cluster": cluster}
        if cluster.engine == "dask":
            known["client"] = _dask(cluster)
        elif cluster.engine == "spark":
            known["spark"] = cluster.spark()
        else:
            known["app"] = cluster.celery()
        banner = f"Connected to {cluster!r}: {', '.join(known)}"
        try:
            from IPython import start_ipython  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            import code

            code.interact(banner, local=known, exitmsg="")
        else:
            click.echo(banner)
            start_ipython(argv=["--no-banner"], user_ns=known)


def _dask(cluster: Any) -> Any:
    """Connect even where versions differ: much works all the same, and the prompt is for trying."""
    from trireme.client.versions import check_dask

    client = cluster.dask(check_versions=False)
    try:
        check_dask(client)
    except TriremeError as error:
        click.echo(f"warning: {error}", err=True)
    return client


def _until_interrupted() -> None:
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
