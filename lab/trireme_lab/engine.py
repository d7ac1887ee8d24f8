"""The Docker engine: the one that answers, or Debian's, installed and started."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from trireme_lab import host
from trireme_lab.cache import Cache
from trireme_lab.commands import Log, answer, succeeds, wait_for
from trireme_lab.problem import Problem

RUNTIME = "trireme"
SHIM = Path("/usr/local/lib/trireme/runc-shim")
_PID_FILES = (Path("/var/run/docker.pid"), Path("/var/run/docker/containerd/containerd.pid"))
_INSTALL = "install Docker Engine (https://docs.docker.com/engine/install/) and start it"


def answers() -> bool:
    """Tell whether a Docker engine answers the docker command."""
    return answer("docker", "version", "--format", "{{.Server.Version}}", seconds=20) is not None


def root_dir() -> Path | None:
    """Return where the engine keeps images, when that is on this machine."""
    text = answer("docker", "info", "--format", "{{.DockerRootDir}}")
    path = Path(text.strip()) if text else None
    return path if path and path.exists() else None


def needs_shim() -> bool:
    """Tell whether containers with CAP_SYS_RESOURCE can't start here without the runc shim."""
    return host.lacks_sys_resource()


def check_runtime() -> None:
    """Make sure that an engine which runs already can start privileged containers.

    Raises:
        Problem: it was started without the shim on a machine that needs it.
    """
    if not needs_shim():
        return
    default = answer("docker", "info", "--format", "{{.DefaultRuntime}}")
    if default is not None and default.strip() != RUNTIME:
        raise Problem(
            "this machine lacks CAP_SYS_RESOURCE, and the Docker engine that runs here was started without the "
            "lab's runc shim: stop that engine and run this again; it is then started with the shim"
        )


def may_start() -> None:
    """Make sure that an engine can be installed and started from here.

    Raises:
        Problem: this is not root on Debian, and no engine answers.
    """
    elsewhere = os.environ.get("DOCKER_HOST")
    if elsewhere:
        raise Problem(f"no Docker engine answers at DOCKER_HOST={elsewhere}: start it, or unset DOCKER_HOST")
    if not host.is_root():
        raise Problem(f"no Docker engine answers, and only root could start one: {_INSTALL}, or run this as root")
    if shutil.which("dockerd") is None and not host.is_debian():
        raise Problem(f"no Docker engine answers: {_INSTALL}")


def install(log: Log) -> None:
    """Install Debian's engine if there is none."""
    if shutil.which("dockerd") and shutil.which("docker"):
        return
    apt_install(log, "docker.io", "iptables")


def apt_install(log: Log, *packages: str) -> None:
    """Install Debian packages; services are not started by it."""
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    log.run("apt-get", "update", env=quiet)
    log.run("apt-get", "install", "--yes", "--no-install-recommends", *packages, env=quiet)


def start(log: Log, cache: Cache, shim: Path | None) -> None:
    """Start the engine and wait until it answers.

    The shim, where given, becomes the default runtime by flags of this daemon alone; no file of the user's is changed.

    Raises:
        Problem: it does not answer; the daemon's log is named.
    """
    for pid_file in _PID_FILES:
        _forget_if_stale(pid_file)
    if shim:
        SHIM.parent.mkdir(parents=True, exist_ok=True)
        fresh = SHIM.with_suffix(".new")
        shutil.copy2(shim, fresh)
        fresh.replace(SHIM)
    if host.has_systemd() and not shim:
        log.run("systemctl", "start", "docker")
    else:
        flags = [f"--add-runtime={RUNTIME}={SHIM}", f"--default-runtime={RUNTIME}"] if shim else []
        daemon_log = cache.root / "log" / "dockerd.log"
        with daemon_log.open("ab") as output:
            daemon = subprocess.Popen(
                ["dockerd", "--host=unix:///var/run/docker.sock", *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
            )
        wait_for(
            f"the Docker engine answers (its log: {daemon_log})",
            lambda: daemon.poll() is not None or succeeds("docker", "version"),
            seconds=60,
        )
        if daemon.poll() is not None:
            raise Problem(f"the Docker engine ended at once: {_last_line(daemon_log)} (log: {daemon_log})")
    wait_for("the Docker engine answers", answers, seconds=60)


def _forget_if_stale(pid_file: Path) -> None:
    """Remove a PID file that would keep dockerd from starting: its process is gone, unreaped, or another program."""
    try:
        # Name in brackets, then the state: proc(5).
        name, state = re.findall(r"\((.*)\) (\S)", Path(f"/proc/{int(pid_file.read_text())}/stat").read_text())[0]
    except (OSError, ValueError, IndexError):
        name, state = "", ""
    if name not in ("dockerd", "containerd") or state in "ZX":
        pid_file.unlink(missing_ok=True)


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def buildkit_client() -> str:
    """Return a docker command that can build with BuildKit: with the buildx plugin, or old enough to speak it itself.

    Raises:
        Problem: none can.
    """
    for client in ("docker", "/usr/bin/docker"):
        if succeeds(client, "buildx", "version"):
            return client
        version = answer(client, "version", "--format", "{{.Client.Version}}")
        # Docker 23 took BuildKit's client out of the docker command and into buildx.
        if version and int(version.split(".")[0]) < 23:
            return client
    raise Problem("docker can't build with BuildKit: install the buildx plugin (Debian: docker-buildx, or docker.io)")
