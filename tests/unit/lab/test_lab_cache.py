"""What was built once: keys, entries, scratch folders, removal."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_room import nobody

from trireme_lab.cache import LOCK, Cache, digest, remove

KEY, OLD = digest("new"), digest("old")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "a").write_text("a")
    (tree / "inner" / "b").write_bytes(b"\0\xff")
    (tree / "link").symlink_to("a")
    return tree


def relink(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


def build(folder: Path) -> None:
    (folder / "part").write_text("built")


def names(cache: Cache) -> set[str]:
    return {path.name for path in cache.root.iterdir()}


CHANGES: dict[str, Callable[[Path], object]] = {
    "bytes": lambda tree: (tree / "a").write_text("b"),
    "bytes further down": lambda tree: (tree / "inner" / "b").write_bytes(b"\0\xfe"),
    "name": lambda tree: (tree / "a").rename(tree / "c"),
    "name of a folder": lambda tree: (tree / "inner").rename(tree / "outer"),
    "one more, empty": lambda tree: (tree / "empty").touch(),
    "one less": lambda tree: (tree / "inner" / "b").unlink(),
    "target of a link": lambda tree: relink(tree / "link", "inner/b"),
    "target of a link that leads nowhere": lambda tree: relink(tree / "link", "nowhere"),
    "a link to a folder": lambda tree: (tree / "folder").symlink_to("inner"),
    "a link in the place of its target": lambda tree: relink(tree / "a", "inner/b"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_digest_changes_with_a_tree(tree: Path, change: Callable[[Path], object]) -> None:
    before = digest(tree)
    change(tree)
    assert digest(tree) != before


def test_digest_stays_where_nothing_that_counts_changes(tree: Path, tmp_path: Path) -> None:
    before = digest(tree)
    moved = shutil.copytree(tree, tmp_path / "elsewhere" / "tree", symlinks=True)
    (moved / "inner" / "__pycache__").mkdir()
    (moved / "inner" / "__pycache__" / "b.pyc").touch()
    assert digest(moved) == before


def test_digest_of_one_file(tree: Path) -> None:
    before = digest(tree / "a")
    (tree / "inner" / "b").unlink()
    assert digest(tree / "a") == before
    (tree / "a").write_text("b")
    assert digest(tree / "a") != before


def test_digest_of_texts() -> None:
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")
    assert digest("ab") == digest(b"ab")
    assert len(digest()) == len(digest("a")) == 12


def test_obtain_builds_once(cache: Cache) -> None:
    built: list[Path] = []
    first = cache.obtain("thing", KEY, lambda folder: (built.append(folder), build(folder))[1])
    again = cache.obtain("thing", KEY, built.append)
    assert first == again == cache.path("thing", KEY)
    assert (first / "part").read_text() == "built"
    assert len(built) == 1


def test_an_interrupted_build_does_not_count(cache: Cache) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "torn").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.obtain("thing", KEY, interrupted)
    assert not cache.path("thing", KEY).exists()
    entry = cache.obtain("thing", KEY, build)
    assert [path.name for path in entry.iterdir()] == ["part"]
    assert names(cache) == {entry.name}


def test_old_keys_are_removed(cache: Cache) -> None:
    cache.obtain("thing", OLD, build)
    (cache.root / f"thing-{OLD}x.partial").mkdir()
    (cache.root / f"thing-{digest('older')}.partial").mkdir()
    cache.obtain("thing", KEY, build)
    assert names(cache) == {f"thing-{KEY}", f"thing-{OLD}x.partial"}


@pytest.mark.parametrize("other", ["thing-else", "thing-el", "things", "thin", "other"])
def test_other_names_are_kept(cache: Cache, other: str) -> None:
    kept = {cache.obtain(other, OLD, build).name, f"{other}-{KEY}.partial"}
    (cache.root / f"{other}-{KEY}.partial").mkdir()
    cache.obtain("thing", KEY, build)
    assert names(cache) == {f"thing-{KEY}", *kept}


def test_old_keys_are_kept_while_the_entry_is_there(cache: Cache) -> None:
    cache.obtain("thing", KEY, build)
    cache.path("thing", OLD).mkdir()
    cache.obtain("thing", KEY, build)
    assert names(cache) == {f"thing-{KEY}", f"thing-{OLD}"}


def test_scratch_is_empty_and_goes(cache: Cache) -> None:
    (cache.root / "room.partial" / "inner").mkdir(parents=True)
    (cache.root / "room.partial" / "left").touch()
    with cache.scratch("room") as folder:
        assert folder.parent == cache.root
        assert list(folder.iterdir()) == []
        (folder / "part").touch()
    assert names(cache) == set()


def test_scratch_goes_after_a_failure(cache: Cache) -> None:
    with pytest.raises(ZeroDivisionError), cache.scratch("room"):
        raise ZeroDivisionError
    assert names(cache) == set()


def test_scratch_is_no_entry(cache: Cache) -> None:
    entry = cache.obtain("room", KEY, build)
    with cache.scratch("room"):
        pass
    assert names(cache) == {entry.name}


def test_sweeping_keeps_entries(cache: Cache) -> None:
    kept = {cache.obtain(name, KEY, build).name for name in ("partial", "thing")}
    for left in (f"thing-{OLD}.partial", "room.partial"):
        (cache.root / left / "inner").mkdir(parents=True)
    (cache.root / "lock").touch()
    cache.sweep()
    assert names(cache) == {"lock", *kept}


def test_empty_tells_the_bytes(cache: Cache, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"x" * 1000)
    entry = cache.obtain("thing", KEY, build)
    (entry / "more").write_bytes(b"x" * 95)
    assert cache.empty() == 100
    (cache.root / "link").symlink_to(outside)
    assert cache.empty() == len(str(outside))
    assert list(cache.root.iterdir()) == []
    assert outside.exists()
    assert cache.empty() == 0


def test_the_lock_stays_for_whoever_holds_it(cache: Cache) -> None:
    cache.obtain("thing", KEY, build)
    (cache.root / LOCK).touch()
    cache.empty()
    assert [entry.name for entry in cache.root.iterdir()] == [LOCK]


def test_a_name_within_another_is_left_alone(cache: Cache) -> None:
    other = cache.obtain("go-modules", KEY, build)
    cache.obtain("go", "0123456789ab" + KEY[:8], build)
    assert other.exists()


def test_whether_a_file_runs_counts(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    before = digest(file)
    file.chmod(0o755)
    assert digest(file) != before


def test_a_link_is_not_the_file_that_holds_its_target(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "x").symlink_to("target")
    (tmp_path / "b" / "x").write_text("target")
    assert digest(tmp_path / "a" / "x") != digest(tmp_path / "b" / "x")


def test_nothing_can_depend_on_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digest(tmp_path / "misspelt")


def test_read_only_trees_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "module" / "pkg" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").touch(0o444)
    for folder in (inner, inner.parent):
        folder.chmod(0o555)
    with nobody(tmp_path, monkeypatch):
        remove(Path("module"))
        assert not Path("module").exists()


def test_remove_follows_no_link(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(0o500)
    (tree / "out").symlink_to(outside)
    (tmp_path / "way").symlink_to(outside)
    remove(tree)
    remove(tmp_path / "way")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert outside.stat().st_mode & 0o777 == 0o500


def test_remove_one_file_or_nothing(tree: Path) -> None:
    remove(tree / "a")
    assert not (tree / "a").exists()
    remove(tree / "a")


@pytest.mark.parametrize(
    ("variables", "root"),
    [
        ({}, "home/.cache/trireme"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/trireme"),
        ({"XDG_CACHE_HOME": "xdg", "TRIREME_CACHE": "own"}, "own"),
        ({"XDG_CACHE_HOME": "", "TRIREME_CACHE": ""}, "home/.cache/trireme"),
    ],
)
def test_where_the_cache_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], root: str
) -> None:
    for name in ("XDG_CACHE_HOME", "TRIREME_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "home", **variables}.items():
        monkeypatch.setenv(name, str(tmp_path / value) if value else "")
    assert Cache.default().root == tmp_path / root
