"""The workload images: built by Docker, and loaded into the nodes that miss one."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from trireme_lab import archive, engine, host, node_image, paths, rootfs
from trireme_lab.cache import Cache, digest
from trireme_lab.commands import Log, answer, succeeds
from trireme_lab.problem import Problem

BASE = "base"
ENGINES = ("dask", "spark", "spark-client", "celery", "redis", "rabbitmq")
OPERATOR = "operator"
TEST = "test"
PUBLISHED = (*ENGINES, OPERATOR)
"""What other clusters need."""
DEPLOYED = (*PUBLISHED, TEST)
"""What the nodes need; the base is only built upon."""

_LABEL = "trireme.dev/key"
_OPERATOR_PARTS = (
    "operator/trireme_operator",
    "charts/common",
    "charts/dask",
    "charts/spark",
    "charts/celery",
    "images/operator",
)


def tag(image: str) -> str:
    """Return the name that charts and samples use."""
    return f"trireme/{image}:dev"


def key(image: str) -> str:
    """Return what the image depends on: its sources and those of its base."""
    if image == OPERATOR:
        return digest(key(BASE), *(paths.TOP / part for part in _OPERATOR_PARTS))
    own = digest(paths.IMAGES / image, rootfs.base_key())
    return own if image == BASE else digest(own, key(BASE))


def missing() -> list[str]:
    """Return the images that the engine lacks or has from other sources, the base first."""
    return [image for image in (BASE, *DEPLOYED) if _built_key(image) != key(image)]


def _built_key(image: str) -> str | None:
    text = answer("docker", "image", "inspect", tag(image))
    labels = json.loads(text)[0]["Config"].get("Labels") if text else None
    return (labels or {}).get(_LABEL)


def load_debian(log: Log, cache: Cache, tar: Path) -> str:
    """Load the root file system that the base image is built from into the engine; return its tag."""
    name = f"trireme/debian:{rootfs.base_key()}"
    if answer("docker", "image", "inspect", name) is None:
        with cache.scratch("debian-image") as folder:
            archive.write(folder / "image.tar", [archive.Image([name], [tar], {"Cmd": ["bash"]})])
            log.run("docker", "load", stdin=folder / "image.tar")
    return name


def build(log: Log, image: str, debian: str | None) -> None:
    """Build one image.

    Args:
        log: of the step.
        image: its name, without `trireme/` and tag.
        debian: the base's own base, where it can't be pulled.
    """
    arguments = {"DEBIAN": debian if image == BASE else None, "PIP_INDEX_URL": os.environ.get("PIP_INDEX_URL")}
    bundle = host.ca_bundle()
    log.run(
        engine.buildkit_client(),
        "build",
        f"--tag={tag(image)}",
        f"--label={_LABEL}={key(image)}",
        # The host's own resolver and routes reach the package registries wherever the host itself does.
        "--network=host",
        *(f"--build-arg={name}={value}" for name, value in arguments.items() if value),
        *([f"--secret=id=ca,src={bundle}"] if bundle else []),
        f"--file={paths.IMAGES / image / 'Dockerfile'}",
        paths.TOP if image == OPERATOR else paths.IMAGES / image,
        env={"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"},
    )


def push(log: Log, image: str, registry: str) -> str:
    """Push an image to a registry; return the name that it has there."""
    name = f"{registry}/{tag(image)}"
    log.run("docker", "tag", tag(image), name)
    log.run("docker", "push", name)
    log.run("docker", "rmi", name)
    return name


def absent(node: str) -> list[str]:
    """Return the images that the node lacks, or has from another build."""
    listed = answer("docker", "exec", node, "ctr", "--namespace=k8s.io", "images", "list", seconds=30)
    # Names of earlier builds stay, so a name alone does not tell which build `dev` is.
    digests = {name: digest for name, _, digest, *_ in map(str.split, (listed or "").splitlines())}

    def has(image: str) -> bool:
        pinned = digests.get(_pinned(image))
        return pinned is not None and digests.get(f"docker.io/{tag(image)}") == pinned

    return [image for image in DEPLOYED if not has(image)]


def _pinned(image: str) -> str:
    """Return a second name in the nodes, which tells which build the image is."""
    return f"docker.io/trireme/{image}:{_id(image)}"


def _id(image: str) -> str:
    text = answer("docker", "image", "inspect", "--format", "{{.Id}}", tag(image))
    if not text:
        raise Problem(f"image {tag(image)} is gone from the engine: run this again")
    return text.strip().removeprefix("sha256:")[:12]


def archive_path(cache: Cache) -> Path:
    """Return where the archive of all images is, or would be."""
    return cache.path("images", _archive_key()) / "images.tar"


def _archive_key() -> str:
    return digest(*map(_id, DEPLOYED))


def write_archive(log: Log, cache: Cache) -> None:
    """Write the archive of all images for new nodes, unless it is there.

    Its layers are compressed: reading an archive into a node costs mostly the hashing of its bytes.
    """

    def write(folder: Path) -> None:
        with cache.scratch("saved-images") as scratch:
            _save(log, DEPLOYED, scratch / "images.tar")
            archive.compress(scratch / "images.tar", folder / "images.tar")

    cache.obtain("images", _archive_key(), write)


def load(log: Log, cache: Cache, images: Sequence[str], node: str) -> None:
    """Load images into a node, unpacked when a pod first needs them.

    Raises:
        Problem: the node did not take them.
    """
    importing = ("docker", "exec", "-i", node, "ctr", "--namespace=k8s.io", "images", "import", "--no-unpack", "-")
    if set(images) == set(DEPLOYED) and archive_path(cache).exists():
        log.run(*importing, stdin=archive_path(cache))
        return
    with cache.scratch(f"some-images-{node}") as folder:
        _save(log, images, folder / "images.tar")
        log.run(*importing, stdin=folder / "images.tar")


def _save(log: Log, images: Sequence[str], to: Path) -> None:
    names = []
    for image in images:
        pinned = _pinned(image).removeprefix("docker.io/")
        log.run("docker", "tag", tag(image), pinned)
        names += [tag(image), pinned]
    log.run("docker", "save", f"--output={to}", *names)
    log.run("docker", "rmi", *(name for name in names if not name.endswith(":dev")))


def forget_old() -> None:
    """Remove what rebuilt images left behind in the engine."""
    succeeds("docker", "image", "prune", "--force", f"--filter=label={_LABEL}", seconds=60)
    for repository, current in (("trireme/debian", rootfs.base_key()), ("trireme/node", node_image.key())):
        listed = answer("docker", "image", "ls", "--format={{.Tag}}", repository)
        for old in (listed or "").split():
            if old != current:
                succeeds("docker", "rmi", f"{repository}:{old}", seconds=60)
