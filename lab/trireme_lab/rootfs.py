"""Debian root file systems made by mmdebstrap, for machines where no registry has one."""

import shutil
from pathlib import Path

from trireme_lab import engine, host, paths
from trireme_lab.cache import Cache, digest
from trireme_lab.commands import Log
from trireme_lab.problem import Problem

# Nothing that reads documentation runs in a container.
_LEAN = (
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)

NODE_SUITE = "bookworm"
"""Later releases' systemd no longer runs on hosts with cgroup v1."""

NODE_PACKAGES = [
    *["systemd", "containerd", "runc", "containernetworking-plugins"],
    # What Kubernetes calls.
    *["conntrack", "iptables", "nftables", "iproute2", "ethtool", "util-linux", "mount", "kmod", "e2fsprogs"],
    # What kind's scripts call, and containerd to unpack images.
    *["bash", "ca-certificates", "curl", "jq", "procps", "hostname", "pigz", "libseccomp2"],
]

POD_PACKAGES = ["iptables", "busybox-static", "catatonit"]
"""What the control plane's images hold besides their program: kube-proxy's rules, a shell, a pause."""

ENFORCER_PACKAGES = ["iptables", "ipset", "ulogd2"]
"""What keeps NetworkPolicies calls, and a log of what they refuse."""

BASE_SUITE = "trixie"
"""Python 3.13 and OpenJDK 21."""


def prepare(log: Log) -> None:
    """Install mmdebstrap if it is missing.

    Raises:
        Problem: it is missing and this is not root on Debian.
    """
    if shutil.which("mmdebstrap"):
        return
    if not (host.is_root() and host.is_debian()):
        raise Problem(
            "no image registry answers, so images are built here, and for that mmdebstrap is missing: "
            "install it, or run this as root on Debian"
        )
    engine.apt_install(log, "mmdebstrap", "debian-archive-keyring")


def node_key() -> str:
    """Return what the node's root file system depends on."""
    return digest(NODE_SUITE, *NODE_PACKAGES, *_LEAN, paths.NODE / "settle.sh")


def node(log: Log, cache: Cache) -> Path:
    """Return the tar of a node's root file system."""
    return _obtain(
        log, cache, "rootfs-node", node_key(), "minbase", NODE_SUITE, NODE_PACKAGES, paths.NODE / "settle.sh"
    )


def pods_key() -> str:
    """Return what the control plane's root file system depends on."""
    return digest(NODE_SUITE, *POD_PACKAGES, *_LEAN)


def pods(log: Log, cache: Cache) -> Path:
    """Return the tar that every image of the control plane starts from: packages unpacked, nothing set up."""
    return _obtain(log, cache, "rootfs-pods", pods_key(), "extract", NODE_SUITE, POD_PACKAGES)


def enforcer_key() -> str:
    """Return what the enforcer's root file system depends on."""
    return digest(NODE_SUITE, *ENFORCER_PACKAGES, *_LEAN)


def enforcer(log: Log, cache: Cache) -> Path:
    """Return the tar that the enforcer's image starts from: packages unpacked, nothing set up."""
    return _obtain(log, cache, "rootfs-enforcer", enforcer_key(), "extract", NODE_SUITE, ENFORCER_PACKAGES)


def base_key() -> str:
    """Return what the workloads' Debian depends on."""
    return digest(BASE_SUITE, *_LEAN)


def base(log: Log, cache: Cache) -> Path:
    """Return the tar of the Debian that workload images are built from."""
    return _obtain(log, cache, "rootfs-base", base_key(), "minbase", BASE_SUITE, ["ca-certificates"])


def _obtain(
    log: Log,
    cache: Cache,
    name: str,
    key: str,
    variant: str,
    suite: str,
    packages: list[str],
    hook: Path | None = None,
) -> Path:
    def build(folder: Path) -> None:
        log.run(
            "mmdebstrap",
            f"--variant={variant}",
            f"--include={','.join(packages)}",
            *_LEAN,
            *([f"--customize-hook={hook}"] if hook else []),
            suite,
            folder / "rootfs.tar",
        )

    return cache.obtain(name, key, build) / "rootfs.tar"
