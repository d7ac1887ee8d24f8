"""The commands kind, kubectl and helm: the user's own where they exist, else built here or taken from a node."""

import os
import shutil
from pathlib import Path

from trireme_lab import programs
from trireme_lab.cache import Cache, digest
from trireme_lab.commands import Log, answer


def kind(log: Log, cache: Cache) -> Path:
    """Return the kind command."""
    return _present(cache, "kind", "version") or _link(cache, programs.tool(log, cache, programs.KIND))


def helm(log: Log, cache: Cache) -> Path:
    """Return the helm command."""
    return _present(cache, "helm", "version") or _link(cache, programs.tool(log, cache, programs.HELM))


def kubectl(log: Log, cache: Cache, node: str) -> Path:
    """Return the kubectl command; where there is none, the node's own."""
    present = _present(cache, "kubectl", "version", "--client")
    if present:
        return present
    built = cache.path("programs", programs.cluster_key()) / "kubectl"
    if not built.exists():
        image = answer("docker", "inspect", "--format", "{{.Image}}", node) or ""

        def copy(folder: Path) -> None:
            log.run("docker", "cp", "--follow-link", f"{node}:/usr/bin/kubectl", folder / "kubectl")

        built = cache.obtain("kubectl", digest(image), copy) / "kubectl"
    return _link(cache, built)


def folder(cache: Cache) -> Path:
    """Return the folder with those of the commands that are not on PATH."""
    return cache.root / "bin"


def _present(cache: Cache, name: str, *check: str) -> Path | None:
    """Return the user's own command, if it also runs; some systems have a dispatcher that finds nothing to call."""
    places = [place for place in os.get_exec_path() if Path(place) != folder(cache)]
    found = shutil.which(name, path=os.pathsep.join(places))
    return Path(found) if found and answer(found, *check) is not None else None


def _link(cache: Cache, program: Path) -> Path:
    link = folder(cache) / program.name
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink() or link.readlink() != program:
        link.unlink(missing_ok=True)
        link.symlink_to(program)
    return link
