"""The node image: kind's own where a registry answers, else put together from what was built here."""

from pathlib import Path

from trireme_lab import archive, engine, paths, programs, rootfs
from trireme_lab.archive import Image, Layer
from trireme_lab.cache import Cache, digest
from trireme_lab.commands import Log, answer, succeeds

_PROBED = "kindest/node:v1.34.0"
REPOSITORY = "trireme/node"
"""What node images built here are called."""
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHIM = "/usr/local/sbin/runc-shim"
_CLUSTER_IMAGES = "/kind/images.tar"


def registry_answers() -> bool:
    """Ask once, at most 5 s, whether node images can be pulled."""
    return answer("docker", "manifest", "inspect", _PROBED, seconds=5) is not None


def key() -> str:
    """Return what a node image built here depends on."""
    return digest(
        programs.cluster_key(),
        rootfs.node_key(),
        rootfs.pods_key(),
        paths.NODE,
        Path(__file__),
        str(engine.needs_shim()),
        archive.architecture(),
    )


def name() -> str:
    """Return the tag of the node image that is built here."""
    return f"{REPOSITORY}:{key()}"


def is_present(image: str) -> bool:
    """Tell whether the engine holds the image."""
    return succeeds("docker", "image", "inspect", image)


def load(log: Log, cache: Cache, built: Path, node_rootfs: Path, pods_rootfs: Path) -> None:
    """Put the node image together and load it into the engine.

    Args:
        log: of the step.
        cache: lends room for the parts.
        built: folder of the cluster's programs.
        node_rootfs: tar of the node's root file system.
        pods_rootfs: tar that the control plane's images start from.
    """
    kubernetes = programs.module_version("k8s.io/kubernetes")
    needed = log.run(built / "kubeadm", "config", "images", "list", "--kubernetes-version", kubernetes).split()
    with cache.scratch("node-image") as folder:
        _write_programs(folder / "programs.tar", built)
        _write_cluster_images(folder / "images.tar", [pods_rootfs, folder / "programs.tar"], needed)
        pause = next(tag for tag in needed if "/pause:" in tag)
        _write_node(folder / "node.tar", built, folder / "images.tar", kubernetes, pause)
        config = {
            "Env": ["container=docker", _PATH],
            "Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"],
            "StopSignal": "SIGRTMIN+3",
        }
        archive.write(folder / "image.tar", [Image([name()], [node_rootfs, folder / "node.tar"], config)])
        log.run("docker", "load", stdin=folder / "image.tar")


def _write_programs(to: Path, built: Path) -> None:
    """Write the layer that all images of the control plane share; they differ in their entrypoint alone."""
    with Layer(to) as layer:
        layer.file("/usr/local/lib/kubernetes/kubernetes", built / "kubernetes", 0o755)
        for program in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
            layer.link(f"/usr/local/bin/{program}", "../lib/kubernetes/kubernetes")
        layer.link("/usr/local/lib/kubernetes/kube-proxy", "kubernetes")
        layer.file("/usr/local/bin/kube-proxy", paths.NODE / "kube-proxy.sh", 0o755)
        for program in ("etcd", "coredns", "podnet", "local-path-provisioner", "metrics-server"):
            layer.file(f"/usr/local/bin/{program}", built / program, 0o755)
        for applet in ("sh", "grep", "ln", "mkdir", "rm", "chmod"):
            layer.link(f"/bin/{applet}", "busybox")
        layer.folder("/tmp", 0o1777)


def _write_cluster_images(to: Path, layers: list[Path], needed: list[str]) -> None:
    metrics_server = programs.module_version("sigs.k8s.io/metrics-server")
    tags = [
        *needed,
        f"registry.k8s.io/metrics-server/metrics-server:{metrics_server}",
        "docker.io/trireme/podnet:dev",
        "docker.io/trireme/local-path-provisioner:dev",
    ]
    special = {"pause": ["/usr/bin/catatonit", "-P"], "local-path-provisioner": ["/bin/sh"]}
    images = []
    for tag in tags:
        program = tag.rpartition(":")[0].rpartition("/")[2]
        entrypoint = special.get(program, [f"/usr/local/bin/{program}"])
        images.append(Image([tag], layers, {"Entrypoint": entrypoint, "Env": [_PATH]}))
    archive.write(to, images)


def _write_node(to: Path, built: Path, images: Path, kubernetes: str, pause: str) -> None:
    """Write what a node has on top of Debian, in the places where kind and its entrypoint look for it."""
    shim = engine.needs_shim()
    containerd = (paths.NODE / "containerd.toml").read_text()
    for word, value in {
        "@PAUSE@": pause,
        "@RESTRICT_OOM_SCORE@": str(shim).lower(),
        "@RUNC_OPTIONS@": f'  BinaryName = "{_SHIM}"' if shim else "",
    }.items():
        containerd = containerd.replace(word, value)
    units = "/etc/systemd/system"
    with Layer(to) as layer:
        kind = built / programs.NODE_FILES
        for part in ("usr/local/bin", "kind/bin", "etc/sysctl.d", "etc/default", "etc/systemd"):
            layer.tree(f"/{part}", kind / part)
        layer.text("/etc/containerd/config.toml", containerd)
        layer.link("/usr/local/bin/containerd", "/usr/bin/containerd")
        layer.file("/usr/bin/kubernetes", built / "kubernetes", 0o755)
        for program in ("kubelet", "kubeadm", "kubectl"):
            layer.link(f"/usr/bin/{program}", "kubernetes")
        layer.text("/kind/version", kubernetes)
        layer.file("/kind/manifests/default-cni.yaml", paths.NODE / "manifests" / "podnet.yaml")
        layer.file("/kind/manifests/default-storage.yaml", paths.NODE / "manifests" / "storage.yaml")
        layer.file(_CLUSTER_IMAGES, images)
        layer.folder("/etc/kubernetes/manifests")
        layer.file("/etc/systemd/journald.conf.d/container.conf", paths.NODE / "units" / "journald.conf")
        for unit in ("load-images.service", "pod-network.service"):
            layer.file(f"{units}/{unit}", paths.NODE / "units" / unit)
        for unit in ("kubelet", "containerd", "undo-mount-hacks", "load-images", "pod-network"):
            layer.link(f"{units}/multi-user.target.wants/{unit}.service", f"../{unit}.service")
        # It would register handlers in the host's kernel.
        layer.link(f"{units}/systemd-binfmt.service", "/dev/null")
        if shim:
            layer.file(_SHIM, built / "runc-shim", 0o755)
            layer.file(f"{units}/containerd.service.d/oom.conf", paths.NODE / "units" / "containerd-oom.conf")
