"""Facts about the machine that the lab runs on."""

import os
import shutil
import socket
from pathlib import Path

CAP_SYS_RESOURCE = 24
GIB = 1024**3


def is_root() -> bool:
    """Tell whether this process may install packages and start a daemon."""
    return os.geteuid() == 0


def is_debian() -> bool:
    """Tell whether packages come from apt (Debian and its children)."""
    return Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


def has_systemd() -> bool:
    """Tell whether systemd runs as PID 1, so that services are started through it."""
    return Path("/run/systemd/system").is_dir()


def lacks_sys_resource() -> bool:
    """Tell whether the bounding set lacks CAP_SYS_RESOURCE.

    runc can then start neither a privileged container nor one with a negative OOM score.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapBnd":
            return not int(value, 16) >> CAP_SYS_RESOURCE & 1
    return False


def free_gib(path: Path) -> float:
    """Return the free space, in GiB, of the file system that holds the path or its nearest existing parent."""
    return shutil.disk_usage(_existing(path)).free / GIB


def same_disk(one: Path, other: Path) -> bool:
    """Tell whether two paths are, or would be, on one file system."""
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of every address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def ca_bundle() -> Path | None:
    """Return the CA bundle that this machine's environment names for Python and OpenSSL, if it names one."""
    for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        value = os.environ.get(name)
        if value and Path(value).is_file():
            return Path(value)
    return None
