"""Versions of Go modules, and the commands that are used or brought."""

from pathlib import Path

import pytest
from lab_room import only_scripts

from trireme_lab import paths, programs, tools
from trireme_lab.cache import Cache, digest
from trireme_lab.commands import Log


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "step.log")


def built(cache: Cache, name: str, key: str, program: str) -> Path:
    """Put a program into the cache as if it had been built."""
    entry = cache.obtain(name, key, lambda folder: (folder / program).parent.mkdir(parents=True, exist_ok=True))
    (entry / program).touch(0o755)
    return entry / program


def built_kind(cache: Cache) -> Path:
    return built(cache, "kind", digest(programs.KIND, programs.module_version(programs.KIND)), "kind")


def test_versions_that_go_mod_requires() -> None:
    lines = [line.split() for line in (paths.GO_MODULE / "go.mod").read_text().splitlines() if "=>" not in line]
    required = {words[0]: words[1] for words in lines if len(words) > 1 and words[1].startswith("v")}
    assert {"k8s.io/kubernetes", "k8s.io/api", programs.KIND, "helm.sh/helm/v4"} <= required.keys()
    assert {module: programs.module_version(module) for module in required} == required


@pytest.mark.parametrize("module", ["k8s.io/kubernete", "k8s", "kubernetes", "k8s.io/k.bernetes", "go", "k8s.io"])
def test_a_module_that_go_mod_does_not_require(module: str) -> None:
    with pytest.raises(LookupError, match=module):
        programs.module_version(module)


def test_the_users_own_command_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Log, cache: Cache) -> None:
    works = {"kind": '[ "$*" = version ]', "helm": '[ "$*" = version ]', "kubectl": '[ "$*" = "version --client" ]'}
    only_scripts(monkeypatch, tmp_path / "bin", **works)
    assert tools.kind(log, cache) == tmp_path / "bin" / "kind"
    assert tools.helm(log, cache) == tmp_path / "bin" / "helm"
    assert tools.kubectl(log, cache, "node") == tmp_path / "bin" / "kubectl"
    assert not cache.root.exists()


def test_a_broken_command_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Log, cache: Cache
) -> None:
    broken = "echo no version of it is set; exit 126"
    only_scripts(monkeypatch, tmp_path / "bin", kind=broken, helm=broken, kubectl=broken)
    kind = built_kind(cache)
    helm = built(cache, "helm", digest(programs.HELM, programs.module_version("helm.sh/helm/v4")), "helm")
    kubectl = built(cache, "programs", programs.cluster_key(), "kubectl")
    for link, program in (
        (tools.kind(log, cache), kind),
        (tools.helm(log, cache), helm),
        (tools.kubectl(log, cache, "node"), kubectl),
    ):
        assert link == tools.folder(cache) / program.name
        assert link.readlink() == program


def test_a_missing_command_is_linked_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Log, cache: Cache
) -> None:
    only_scripts(monkeypatch, tmp_path / "bin")
    kind = built_kind(cache)
    tools.folder(cache).mkdir()
    for stale in (cache.root / "kind-gone" / "kind", log.path):
        (tools.folder(cache) / "kind").unlink(missing_ok=True)
        (tools.folder(cache) / "kind").symlink_to(stale)
        assert tools.kind(log, cache).readlink() == kind
    assert tools.kind(log, cache).readlink() == kind


def test_kubectl_comes_from_the_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Log, cache: Cache) -> None:
    image = tmp_path / "image"
    docker = f"""case $1 in
        inspect) while read -r line; do echo "$line"; done <{image} ;;
        cp) for last; do :; done; echo "$*" >"$last" ;;
    esac"""
    only_scripts(monkeypatch, tmp_path / "bin", docker=docker)
    image.write_text("sha256:1\n")
    first = tools.kubectl(log, cache, "node-1").resolve()
    assert first.read_text() == f"cp --follow-link node-1:/usr/bin/kubectl {first.parent}.partial/kubectl\n"
    assert tools.kubectl(log, cache, "node-2").resolve() == first
    image.write_text("sha256:2\n")
    assert tools.kubectl(log, cache, "node-2").resolve() != first
    assert "node-2" in tools.kubectl(log, cache, "node-2").read_text()


@pytest.mark.parametrize(
    ("version", "used"),
    [("go99.1", True), ("go1.1000", True), ("go1.9.7", False), ("go1.26.3", False), ("", False)],
)
def test_a_go_command_that_is_new_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Log, cache: Cache, version: str, used: bool
) -> None:
    monkeypatch.setattr(paths, "GO_MODULE", tmp_path)
    (tmp_path / "go.mod").write_text("module trireme.dev/lab\n\ngo 1.26.4\n")
    only_scripts(monkeypatch, tmp_path / "bin", go=f"echo {version}")
    brought = built(cache, "go", digest(programs.GO_PACKAGE), "go/bin/go")
    assert programs._go(log, cache) == (tmp_path / "bin" / "go" if used else brought)


def test_no_go_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Log, cache: Cache) -> None:
    only_scripts(monkeypatch, tmp_path / "bin")
    brought = built(cache, "go", digest(programs.GO_PACKAGE), "go/bin/go")
    assert programs._go(log, cache) == brought


def test_what_the_lab_brought_once_is_not_taken_for_the_users_own(
    cache: Cache, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = built_kind(cache)
    only_scripts(monkeypatch, tools.folder(cache), kind="echo an old one")
    assert tools.kind(log, cache).resolve() == current
