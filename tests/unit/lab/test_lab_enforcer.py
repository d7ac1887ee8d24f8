"""What keeps NetworkPolicies in the lab: its image, what it is built from, and when it is refused."""

import re
import tarfile
from pathlib import Path

import pytest
from lab_room import answers

from trireme_lab import enforcer, paths
from trireme_lab.cache import Cache
from trireme_lab.problem import Problem


def test_without_a_cluster_nothing_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers(monkeypatch, {})
    cache = Cache(tmp_path / "cache")
    with pytest.raises(Problem, match="make cluster-up"):
        enforcer.enforce(cache)
    assert not list(cache.root.glob("*"))


def test_modules_are_those_of_the_other_programs() -> None:
    """So that what was compiled for those is not compiled again."""

    def versions(module: Path) -> dict[str, str]:
        text = (module / "go.mod").read_text()
        return dict(re.findall(r"^\t(\S+(?: => \S+)?) (v\S+)", text, re.MULTILINE))

    own, others = versions(paths.ENFORCER), versions(paths.GO_MODULE)
    assert {"k8s.io/client-go", "k8s.io/client-go => k8s.io/client-go"} <= own.keys() & others.keys()
    assert {name: version for name, version in own.items() if name in others} == {
        name: version for name, version in others.items() if name in own
    }


def test_the_image_calls_iptables_of_nftables(tmp_path: Path) -> None:
    for name in ("system.tar", "enforcer"):
        (tmp_path / name).write_bytes(b"")
    enforcer.write_image(tmp_path, "trireme/enforcer:1", tmp_path / "system.tar", tmp_path / "enforcer")
    with tarfile.open(tmp_path / "own.tar") as own:
        assert own.getmember("usr/sbin/iptables-restore").linkname == "xtables-nft-multi"
        assert own.getmember("usr/local/bin/enforcer").mode == 0o755
