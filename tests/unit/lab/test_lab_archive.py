"""Images put together from files."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trireme_lab.archive import Image, Layer, compress, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "bin").mkdir(parents=True)
    (source / "z").write_text("z")
    (source / "bin" / "run").write_text("run")
    (source / "bin" / "run").chmod(0o700)
    return source


def fill(path: Path, source: Path) -> Path:
    with Layer(path) as layer:
        layer.tree("/opt", source)
        layer.text("/etc/deep/é", "é\n")
        layer.file("/etc/z", source / "z", 0o600)
        layer.link("/etc/deep/link", "../z")
        layer.folder("/etc/deep/")
        layer.folder("/")
        layer.folder("/tmp", 0o1777)
    return path


def text_layer(path: Path, text: str) -> Path:
    with Layer(path) as layer:
        layer.text("/text", text)
    return path


def entries(path: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(path) as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isfile() else None
            yield entry, content.read() if content else b""


def contents(path: Path) -> dict[str, bytes]:
    found = list(entries(path))
    files = {entry.name: content for entry, content in found}
    assert len(files) == len(found)
    return files


def manifest(files: dict[str, bytes]) -> Any:
    return json.loads(files["manifest.json"])


def test_a_layer_depends_on_its_content_alone(tmp_path: Path, source: Path) -> None:
    first = fill(tmp_path / "1.tar", source).read_bytes()
    for path in (source / "z", source / "bin" / "run", source / "bin"):
        os.utime(path, (1, 1))
    assert fill(tmp_path / "2.tar", source).read_bytes() == first
    (source / "z").write_text("y")
    assert fill(tmp_path / "3.tar", source).read_bytes() != first


def test_what_is_in_a_layer(tmp_path: Path, source: Path) -> None:
    found = [
        (entry.name, entry.type, entry.mode, entry.linkname or content.decode())
        for entry, content in entries(fill(tmp_path / "layer.tar", source))
    ]
    assert found == [
        ("opt", tarfile.DIRTYPE, 0o755, ""),
        ("opt/bin", tarfile.DIRTYPE, 0o755, ""),
        ("opt/bin/run", tarfile.REGTYPE, 0o755, "run"),
        ("opt/z", tarfile.REGTYPE, 0o644, "z"),
        ("etc", tarfile.DIRTYPE, 0o755, ""),
        ("etc/deep", tarfile.DIRTYPE, 0o755, ""),
        ("etc/deep/é", tarfile.REGTYPE, 0o644, "é\n"),
        ("etc/z", tarfile.REGTYPE, 0o600, "z"),
        ("etc/deep/link", tarfile.SYMTYPE, 0o777, "../z"),
        ("tmp", tarfile.DIRTYPE, 0o1777, ""),
    ]


def test_layers_belong_to_root(tmp_path: Path, source: Path) -> None:
    for entry, _ in entries(fill(tmp_path / "layer.tar", source)):
        assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0, 0, "", "", 0)


def test_images_share_a_layer(tmp_path: Path) -> None:
    low, a, b = (text_layer(tmp_path / f"{name}.tar", name) for name in ("low", "a", "b"))
    run = {"Entrypoint": ["/a"], "Env": ["A=b"]}
    write(tmp_path / "images.tar", [Image(["x/a:1", "x/a:2"], [low, a], run), Image(["x/b:1"], [low, b])])
    files = contents(tmp_path / "images.tar")
    first, second = manifest(files)
    assert len([name for name in files if name.endswith("/layer.tar")]) == 3
    assert [first["RepoTags"], second["RepoTags"]] == [["x/a:1", "x/a:2"], ["x/b:1"]]
    for image, layers in ((first, [low, a]), (second, [low, b])):
        assert [files[name] for name in image["Layers"]] == [layer.read_bytes() for layer in layers]
        config = json.loads(files[image["Config"]])
        digests = [f"sha256:{hashlib.sha256(layer.read_bytes()).hexdigest()}" for layer in layers]
        assert config["rootfs"] == {"type": "layers", "diff_ids": digests}
        assert image["Config"] == f"{hashlib.sha256(files[image['Config']]).hexdigest()}.json"
        assert len(config["history"]) == 2
        assert config["os"] == "linux"
    assert json.loads(files[first["Config"]])["config"] == run
    assert json.loads(files[second["Config"]])["config"] == {}


def test_equal_images_share_their_config(tmp_path: Path) -> None:
    layer = text_layer(tmp_path / "layer.tar", "text")
    write(tmp_path / "images.tar", [Image(["x/a:1"], [layer]), Image(["x/b:1"], [layer])])
    files = contents(tmp_path / "images.tar")
    first, second = manifest(files)
    assert len(files) == 3
    assert first["Config"] == second["Config"]
    assert [first["RepoTags"], second["RepoTags"]] == [["x/a:1"], ["x/b:1"]]


def test_an_archive_depends_on_its_content_alone(tmp_path: Path) -> None:
    layer = text_layer(tmp_path / "layer.tar", "text")
    write(tmp_path / "1.tar", [Image(["x/a:1"], [layer])])
    os.utime(layer, (1, 1))
    layer.chmod(0o600)
    write(tmp_path / "2.tar", [Image(["x/a:1"], [layer])])
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_compressing_keeps_the_content(tmp_path: Path) -> None:
    texts = ["low" * 10_000, "high"]
    layers = [text_layer(tmp_path / f"{number}.tar", text) for number, text in enumerate(texts)]
    write(tmp_path / "plain.tar", [Image(["x/a:1"], layers)])
    with tarfile.open(tmp_path / "plain.tar", "a") as plain:
        link = tarfile.TarInfo("again/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../first/layer.tar"
        plain.addfile(link)
        oci = tarfile.TarInfo("oci-layout")
        oci.size = 2
        plain.addfile(oci, io.BytesIO(b"{}"))
    compress(tmp_path / "plain.tar", tmp_path / "packed.tar")
    before, after = list(entries(tmp_path / "plain.tar")), list(entries(tmp_path / "packed.tar"))
    assert [(entry.name, entry.type, entry.linkname) for entry, _ in after] == [
        (entry.name, entry.type, entry.linkname) for entry, _ in before
    ]
    packed = [entry.isfile() and entry.name.endswith("/layer.tar") for entry, _ in after]
    assert packed.count(True) == 2
    for (_, was), (_, now), zipped in zip(before, after, packed, strict=True):
        assert (gzip.decompress(now) if zipped else now) == was
    assert (tmp_path / "packed.tar").stat().st_size < (tmp_path / "plain.tar").stat().st_size
