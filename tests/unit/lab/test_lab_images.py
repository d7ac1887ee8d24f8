"""What the workload images depend on, and which of them are missing."""

import json
import re
from pathlib import Path

import pytest
from lab_room import answers

from trireme_lab import images, paths, rootfs
from trireme_lab.images import BASE, DEPLOYED, ENGINES, OPERATOR

ALL = (BASE, *DEPLOYED)
COPIED = re.findall(r"(?m)^COPY (\S+) ", (paths.IMAGES / OPERATOR / "Dockerfile").read_text())


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a file in each folder that an image is built from."""
    for folder in (*COPIED, *(f"images/{image}" for image in ALL), "charts/trireme", "lab"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").touch()
    monkeypatch.setattr(paths, "TOP", tmp_path)
    monkeypatch.setattr(paths, "IMAGES", tmp_path / "images")
    return tmp_path


def keys() -> dict[str, str]:
    return {image: images.key(image) for image in ALL}


def changed(before: dict[str, str]) -> set[str]:
    return {image for image, key in keys().items() if key != before[image]}


def test_every_image_has_a_folder() -> None:
    assert {path.parent.name for path in paths.IMAGES.glob("*/Dockerfile")} == set(ALL)


def test_every_key_is_another(top: Path) -> None:
    assert len(set(keys().values())) == len(ALL)


@pytest.mark.parametrize("folder", [*COPIED, "images/operator"])
def test_the_operators_sources_change_its_image_alone(top: Path, folder: str) -> None:
    before = keys()
    (top / folder / "file").write_text("changed")
    assert changed(before) == {OPERATOR}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engines_sources_change_its_image_alone(top: Path, engine: str) -> None:
    before = keys()
    (top / "images" / engine / "file").write_text("changed")
    assert changed(before) == {engine}


def test_the_base_changes_all(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys()
    (top / "images" / BASE / "file").write_text("changed")
    assert changed(before) == set(ALL)
    before = keys()
    monkeypatch.setattr(rootfs, "BASE_SUITE", "another")
    assert changed(before) == set(ALL)


def test_other_files_change_nothing(top: Path) -> None:
    before = keys()
    (top / "charts" / "trireme" / "file").write_text("changed")
    (top / "lab" / "file").write_text("changed")
    assert changed(before) == set()


def inspected(labels: dict[str, str] | None) -> str:
    return json.dumps([{"Config": {"Labels": labels}}])


def test_missing_images(monkeypatch: pytest.MonkeyPatch) -> None:
    current = {
        f"docker image inspect {images.tag(image)}": inspected({"trireme.dev/key": images.key(image)}) for image in ALL
    }
    answers(monkeypatch, current)
    assert images.missing() == []
    answers(monkeypatch, {})
    assert images.missing() == list(ALL)
    outdated = {
        images.tag("spark"): inspected({"trireme.dev/key": "another"}),
        images.tag(BASE): inspected({"org.opencontainers.image.title": "x"}),
        images.tag("redis"): inspected(None),
    }
    answers(monkeypatch, {**current, **{f"docker image inspect {tag}": text for tag, text in outdated.items()}})
    assert images.missing() == [BASE, "spark", "redis"]


def test_images_that_a_node_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {f"docker image inspect --format {{{{.Id}}}} {images.tag(image)}": f"sha256:{image:x>64}\n" for image in ALL}
    listing = "docker exec node ctr --namespace=k8s.io images list"
    tags = {image: ("dev", f"{image:x>64}"[:12], "older") for image in DEPLOYED}
    full = {f"docker.io/trireme/{image}:{tag}": image for image in DEPLOYED for tag in tags[image]}

    def listed(digests: dict[str, str]) -> str:
        rows = [f"{name} application/vnd.oci.image.manifest.v1+json sha256:{of} 9 MiB" for name, of in digests.items()]
        return "\n".join(["REF TYPE DIGEST SIZE PLATFORMS LABELS", *rows, ""])

    answers(monkeypatch, {**ids, listing: listed(full)})
    assert images.absent("node") == []
    for name, image in full.items():
        if name.endswith(":older"):
            continue
        answers(monkeypatch, {**ids, listing: listed({one: of for one, of in full.items() if one != name})})
        assert images.absent("node") == [image]
        # Both names are there, of two builds.
        answers(monkeypatch, {**ids, listing: listed({**full, name: "another"})})
        assert images.absent("node") == [image]
    answers(monkeypatch, ids)
    assert images.absent("node") == list(DEPLOYED)
