"""`make cluster-policies`: the nodes keep NetworkPolicies, which the lab's own network only stores."""

from pathlib import Path

from trireme_lab import archive, cluster, paths, programs, rootfs, tools
from trireme_lab.archive import Image, Layer
from trireme_lab.cache import Cache, digest
from trireme_lab.cluster import CONTEXT, NODES, State
from trireme_lab.console import Steps, say, together
from trireme_lab.problem import Problem

_REPOSITORY = "trireme/enforcer"
_PATH = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def enforce(cache: Cache) -> None:
    """Have the cluster that stands keep NetworkPolicies from now on.

    Raises:
        Problem: none stands, or its nodes can't: their kernel must have ipset.
    """
    if cluster.observe(None) is not State.STANDING:
        raise Problem("no cluster stands: `make cluster-up` first")
    steps = Steps(cache)
    name = f"{_REPOSITORY}:{_key()}"
    parts: dict[str, Path] = {}

    def system() -> None:
        with steps.step("Debian for the enforcer") as log:
            rootfs.prepare(log)
            parts["system"] = rootfs.enforcer(log, cache)

    def compile_program() -> None:
        with steps.step("kube-router's policies from source") as log:
            parts["program"] = programs.enforcer(log, cache)

    together(system, compile_program)
    with steps.step("enforcer") as log:
        with cache.scratch("enforcer-image") as folder:
            write_image(folder, name, parts["system"], parts["program"])
            for node in NODES:
                importing = ("docker", "exec", "-i", node, "ctr", "--namespace=k8s.io", "images", "import", "-")
                log.run(*importing, stdin=folder / "image.tar")
        kubectl = (tools.kubectl(log, cache, cluster.CONTROL_PLANE), f"--context={CONTEXT}", "--namespace=kube-system")
        manifest = (paths.ENFORCER / "enforcer.yaml").read_text().replace(f"{_REPOSITORY}:dev", name)
        log.run(*kubectl, "apply", "--server-side", "--force-conflicts", "--filename=-", stdin=manifest)
        log.run(*kubectl, "rollout", "status", "daemonset/enforcer", "--timeout=60s")
    say(f"  until: kubectl delete -f {(paths.ENFORCER / 'enforcer.yaml').relative_to(paths.TOP)}")


def _key() -> str:
    return digest(programs.enforcer_key(), rootfs.enforcer_key(), paths.ENFORCER, Path(__file__))


def write_image(folder: Path, name: str, system: Path, program: Path) -> None:
    """Write the image's archive, image.tar, into a folder.

    Args:
        folder: has room for it.
        name: repository and tag.
        system: tar of the root file system.
        program: the enforcer.
    """
    with Layer(folder / "own.tar") as layer:
        layer.file("/usr/local/bin/enforcer", program, 0o755)
        layer.file("/etc/refused.conf", paths.ENFORCER / "refused.conf")
        # Packages are unpacked and not set up, so nobody chose: the nodes' own rules are nftables', too.
        for command in ("iptables", "iptables-save", "iptables-restore"):
            layer.link(f"/usr/sbin/{command}", "xtables-nft-multi")
        layer.folder("/tmp", 0o1777)
    archive.write(folder / "image.tar", [Image([f"docker.io/{name}"], [system, folder / "own.tar"], {"Env": [_PATH]})])
