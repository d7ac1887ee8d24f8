"""Room on the disk is looked at before anything is made."""

from pathlib import Path

import pytest
from lab_room import answers, only_scripts

from trireme_lab import host, programs, up
from trireme_lab.cache import Cache
from trireme_lab.cluster import NODES
from trireme_lab.problem import Problem
from trireme_lab.up import Up

ENGINE = {"docker version": "28.1.0", "docker info --format {{.DefaultRuntime}}": "trireme"}
CLUSTER = {"docker ps": "".join(f"{node} running\n" for node in NODES)}
PROGRAMS, NODE_IMAGE, IMAGES, CLUSTER_ITSELF = 8, 4, 2, 1


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Up:
    """A run for which each part needs another amount, with nothing on PATH that could make one."""
    only_scripts(monkeypatch, tmp_path / "bin")
    monkeypatch.setattr(up, "_NEED_PROGRAMS", PROGRAMS)
    monkeypatch.setattr(up, "_NEED_NODE_IMAGE", NODE_IMAGE)
    monkeypatch.setattr(up, "_NEED_IMAGES", IMAGES)
    monkeypatch.setattr(up, "_NEED_CLUSTER", CLUSTER_ITSELF)
    return Up(Cache(tmp_path / "cache"), None)


def free(monkeypatch: pytest.MonkeyPatch, gib: float) -> list[Path]:
    asked: list[Path] = []
    monkeypatch.setattr(host, "free_gib", lambda place: (asked.append(place), gib)[1])
    return asked


@pytest.mark.parametrize(
    ("missing", "node", "built", "known", "need"),
    [
        (["base"], True, False, {}, PROGRAMS + NODE_IMAGE + IMAGES + CLUSTER_ITSELF),
        (["base"], True, True, {}, NODE_IMAGE + IMAGES + CLUSTER_ITSELF),
        (["base"], False, False, {}, IMAGES + CLUSTER_ITSELF),
        ([], True, False, CLUSTER, PROGRAMS + NODE_IMAGE),
        ([], False, False, {}, CLUSTER_ITSELF),
        (["operator"], False, False, CLUSTER, IMAGES),
    ],
)
def test_too_little_room(
    lab: Up,
    monkeypatch: pytest.MonkeyPatch,
    missing: list[str],
    node: bool,
    built: bool,
    known: dict[str, str],
    need: int,
) -> None:
    if built:
        lab.cache.path("programs", programs.cluster_key()).mkdir(parents=True)
    answers(monkeypatch, known)
    free(monkeypatch, need - 0.25)
    with pytest.raises(Problem) as problem:
        lab.check_disk(missing, node)
    assert str(problem.value) == (
        f"not enough disk: {need} GiB are needed at {lab.cache.root}, {need - 0.25:.1f} GiB are free"
    )
    free(monkeypatch, need)
    lab.check_disk(missing, node)


def test_nothing_to_make_needs_no_room(lab: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, CLUSTER)
    free(monkeypatch, 0)
    lab.check_disk([], False)


def test_room_is_needed_where_the_engine_keeps_images(lab: Up, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers(monkeypatch, {"docker info --format {{.DockerRootDir}}": f"{tmp_path}\n"})
    asked = free(monkeypatch, 0)
    with pytest.raises(Problem, match=f" needed at {tmp_path}, "):
        lab.check_disk([], False)
    assert asked == [tmp_path]


def test_nothing_is_begun_without_room(lab: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ENGINE)
    free(monkeypatch, 0.5)
    with pytest.raises(Problem, match=r"^not enough disk: 15 GiB are needed at .*, 0\.5 GiB are free$"):
        lab.run()
    assert not lab.cache.root.exists()
