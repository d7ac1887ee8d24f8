"""Container images put together from files, in the archive format that `docker load` and `ctr images import` read."""

import gzip
import hashlib
import io
import json
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CREATED = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Image:
    """One image: names to call it by, layers from the lowest up, and the config's run settings (OCI words)."""

    tags: Sequence[str]
    layers: Sequence[Path]
    config: Mapping[str, object] = field(default_factory=dict)


class Layer:
    """A layer being written: a tar whose bytes depend on its content alone."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.GNU_FORMAT)  # noqa: SIM115 (closed by __exit__)
        self._folders: set[str] = set()

    def __enter__(self) -> "Layer":
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def folder(self, name: str, mode: int = 0o755) -> None:
        """Add a folder and its parents."""
        name = name.strip("/")
        if not name or name in self._folders:
            return
        self.folder(str(Path(name).parent) if "/" in name else "")
        self._folders.add(name)
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self._tar.addfile(entry)

    def text(self, name: str, content: str, mode: int = 0o644) -> None:
        """Add a file with this content."""
        entry = self._entry(name, mode)
        entry.size = len(content.encode())
        self._tar.addfile(entry, io.BytesIO(content.encode()))

    def file(self, name: str, source: Path, mode: int = 0o644) -> None:
        """Add a copy of a file."""
        entry = self._entry(name, mode)
        entry.size = source.stat().st_size
        with source.open("rb") as content:
            self._tar.addfile(entry, content)

    def tree(self, name: str, source: Path) -> None:
        """Add every file under a folder, with the permissions it has."""
        for path in sorted(source.rglob("*")):
            if path.is_file():
                mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                self.file(f"{name}/{path.relative_to(source)}", path, mode)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        entry = self._entry(name, 0o777)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(entry)

    def _entry(self, name: str, mode: int) -> tarfile.TarInfo:
        name = name.strip("/")
        self.folder(str(Path(name).parent) if "/" in name else "")
        entry = tarfile.TarInfo(name)
        entry.mode = mode
        return entry


def write(path: Path, images: Iterable[Image]) -> None:
    """Write the images into one archive; a layer that several of them use is in it once."""
    manifest: list[dict[str, object]] = []
    digests: dict[Path, str] = {}
    configs: set[str] = set()
    with tarfile.open(path, "w") as archive:
        for image in images:
            for layer in image.layers:
                if layer not in digests:
                    digests[layer] = _sha256(layer)
                    archive.add(layer, f"{digests[layer]}/layer.tar", filter=_anonymous)
            config = json.dumps(
                {
                    "architecture": architecture(),
                    "os": "linux",
                    "created": _CREATED,
                    "config": dict(image.config),
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digests[layer]}" for layer in image.layers]},
                    "history": [{"created": _CREATED} for _ in image.layers],
                },
                sort_keys=True,
            ).encode()
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            if name not in configs:
                configs.add(name)
                entry = tarfile.TarInfo(name)
                entry.size = len(config)
                archive.addfile(entry, io.BytesIO(config))
            manifest.append(
                {
                    "Config": name,
                    "RepoTags": list(image.tags),
                    "Layers": [f"{digests[layer]}/layer.tar" for layer in image.layers],
                }
            )
        content = json.dumps(manifest).encode()
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def compress(archive: Path, to: Path) -> None:
    """Write a copy of an archive from `docker save`, its layers compressed."""
    with tarfile.open(archive) as plain, tarfile.open(to, "w") as packed:
        for entry in plain:
            content = plain.extractfile(entry) if entry.isfile() else None
            if content and entry.name.endswith("/layer.tar"):
                with tempfile.TemporaryFile() as room:
                    # Level 1: a second more of this costs more than it saves in reading.
                    with gzip.GzipFile(fileobj=room, mode="wb", compresslevel=1, mtime=0) as layer:
                        shutil.copyfileobj(content, layer, 1 << 20)
                    entry.size = room.tell()
                    room.seek(0)
                    packed.addfile(entry, room)
            else:
                packed.addfile(entry, content)


def architecture() -> str:
    """Return this machine's architecture in the words of image configs."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o644
    return entry


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
