"""What was built once, kept outside the checkout under the hash of what it was built from."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PARTIAL = ".partial"
LOCK = "lock"
"""Name of the file in the cache that is locked while the lab is at work."""


def digest(*parts: str | bytes | Path) -> str:
    """Return 12 hex digits that change with any of the parts.

    Of a path, its files' names, bytes and permission to run count.

    Raises:
        FileNotFoundError: there is no such path.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for file in _files(part):
                kind = "link" if file.is_symlink() else "program" if file.stat().st_mode & 0o100 else "file"
                total.update(f"{file.relative_to(part.parent)}\0{kind}\0".encode())
                total.update(str(file.readlink()).encode() if file.is_symlink() else file.read_bytes())
        else:
            total.update(part.encode() if isinstance(part, str) else part)
        total.update(b"\0")
    return total.hexdigest()[:12]


def _files(path: Path) -> Iterable[Path]:
    if path.is_file() or path.is_symlink():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(path)
    return sorted(
        file for file in path.rglob("*") if (file.is_symlink() or file.is_file()) and "__pycache__" not in file.parts
    )


class Cache:
    """A folder of entries `name-key`; an entry is there in full or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def default(cls) -> "Cache":
        """Return the cache at TRIREME_CACHE, or in `trireme` under XDG_CACHE_HOME or ~/.cache."""
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return cls(Path(os.environ.get("TRIREME_CACHE") or Path(home) / "trireme"))

    def path(self, name: str, key: str) -> Path:
        """Return where the entry is, or would be."""
        return self.root / f"{name}-{key}"

    def obtain(self, name: str, key: str, build: Callable[[Path], None]) -> Path:
        """Return the entry's folder, built first if it is not there.

        What is left of an interrupted build, and entries of the same name with another key, are removed.
        """
        entry = self.path(name, key)
        if entry.is_dir():
            return entry
        self.root.mkdir(parents=True, exist_ok=True)
        partial = entry.with_name(f"{entry.name}{_PARTIAL}")
        for old in self.root.glob(f"{name}-*"):
            if re.fullmatch(rf"[0-9a-z]{{{len(key)}}}({re.escape(_PARTIAL)})?", old.name[len(name) + 1 :]):
                remove(old)
        partial.mkdir()
        build(partial)
        partial.rename(entry)
        return entry

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Lend an empty folder; what an interrupted use left in it is removed first."""
        folder = self.root / f"{name}{_PARTIAL}"
        remove(folder)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            remove(folder)

    def sweep(self) -> None:
        """Remove what interrupted builds left; nobody else may be building."""
        for left in self.root.glob(f"*{_PARTIAL}"):
            remove(left)

    def empty(self) -> int:
        """Remove everything; return the bytes that were in it."""
        size = sum(file.lstat().st_size for file in self.root.rglob("*") if not file.is_dir())
        for entry in self.root.glob("*"):
            # Whoever empties the cache holds its lock.
            if entry.name != LOCK:
                remove(entry)
        return size


def remove(path: Path) -> None:
    """Remove a file or folder, also where files in it are read-only, as in Go's module cache."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    for folder in path.rglob("*"):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o755)
    if path.exists():
        shutil.rmtree(path)
