"""`make cluster-up`: from whatever is there to a cluster that works."""

import os
from functools import cached_property
from pathlib import Path

from trireme_lab import cluster, deploy, engine, host, images, node_image, programs, rootfs, tools
from trireme_lab.cache import Cache
from trireme_lab.cluster import NODES, State
from trireme_lab.commands import wait_for
from trireme_lab.console import Steps, say, together
from trireme_lab.problem import Problem

# GiB that each part takes at most while it is made, measured with room to spare.
_NEED_PROGRAMS = 9
_NEED_NODE_IMAGE = 4
_NEED_IMAGES = 8
_NEED_CLUSTER = 5


class Up:
    """One run of `make cluster-up`.

    Args:
        cache: of built things.
        asked: the node image that the user wants, from KIND_NODE_IMAGE.
    """

    def __init__(self, cache: Cache, asked: str | None) -> None:
        self.cache = cache
        self.steps = Steps(cache)
        self.asked = asked

    def run(self) -> None:
        """Bring the cluster up, or mend it.

        Raises:
            Problem: what is wrong, in one line.
        """
        self.engine()
        state = self.state()
        missing = images.missing()
        image = self.asked
        if state is State.STANDING:
            self.build(missing, node=False, archive=False)
        else:
            cluster.check_ports()
            if self.asked:
                self.pull(self.asked)
            own = not self.asked and (node_image.is_present(node_image.name()) or not self.registry)
            image = node_image.name() if own else self.asked
            self.build(missing, node=own and not node_image.is_present(node_image.name()), archive=True)
            self.create(image)
        self.load()
        self.deploy()
        images.forget_old()

    def engine(self) -> None:
        """Find the Docker engine, or install and start Debian's."""
        if engine.answers():
            engine.check_runtime()
            return
        engine.may_start()
        with self.steps.step("start the Docker engine") as log:
            engine.install(log)
            shim = programs.runc_shim(log, self.cache) if engine.needs_shim() else None
            engine.start(log, self.cache, shim)

    def state(self) -> State:
        """Return what stands of the cluster, after its stopped nodes are started."""
        found = cluster.observe(self.asked)
        if found is State.STOPPED:
            with self.steps.step("start the stopped nodes") as log:
                cluster.start(log)
            found = cluster.observe(self.asked)
        if found is State.STANDING:
            with self.steps.quiet("reach the cluster") as log:
                kind = tools.kind(log, self.cache)
                kubectl = tools.kubectl(log, self.cache, cluster.CONTROL_PLANE)
                try:
                    cluster.reach(log, kind, kubectl)
                except Problem as problem:
                    say(f"  the cluster does not come back ({problem})")
                    return State.HALF_MADE
        return found

    @cached_property
    def registry(self) -> bool:
        """Whether an image registry answers; asked once."""
        return node_image.registry_answers()

    def pull(self, image: str) -> None:
        """Make sure that the engine has the node image that was asked for.

        Raises:
            Problem: it neither has it nor can pull it.
        """
        if not node_image.is_present(image):
            with self.steps.step("pull the node image") as log:
                try:
                    log.run("docker", "pull", image)
                except Problem as problem:
                    raise Problem(
                        f"KIND_NODE_IMAGE={image}: no such image here, and it can't be pulled: {problem}"
                    ) from problem

    def build(self, missing: list[str], node: bool, archive: bool) -> None:
        """Build what is not there: the node image, the workload images; side by side.

        Args:
            missing: workload images to build.
            node: whether to build the node image.
            archive: whether to write the archive of all workload images.
        """
        self.check_disk(missing, node)
        if node or (images.BASE in missing and not self.registry):
            with self.steps.quiet("prepare mmdebstrap") as log:
                rootfs.prepare(log)
        works = [lambda: self.build_images(missing, archive)]
        if node:
            works.append(self.build_node_image)
        together(*works)

    def build_node_image(self) -> None:
        """Build the node image from source."""
        parts: dict[str, Path] = {}

        def systems() -> None:
            with self.steps.step("Debian for the nodes") as log:
                parts["pods"] = rootfs.pods(log, self.cache)
                parts["node"] = rootfs.node(log, self.cache)

        def compile_programs() -> None:
            with self.steps.step("Kubernetes from source") as log:
                parts["programs"] = programs.for_cluster(log, self.cache)
                tools.kind(log, self.cache)
                tools.helm(log, self.cache)

        together(systems, compile_programs)
        with self.steps.step("node image") as log:
            node_image.load(log, self.cache, parts["programs"], parts["node"], parts["pods"])

    def build_images(self, missing: list[str], archive: bool) -> None:
        """Build workload images, the base first; and the archive of all, where a cluster will be made."""
        debian = None
        if images.BASE in missing and not self.registry:
            with self.steps.step("Debian for the images") as log:
                debian = images.load_debian(log, self.cache, rootfs.base(log, self.cache))
        for image in missing:
            with self.steps.step(f"image {image}") as log:
                images.build(log, image, debian)
        if archive and not images.archive_path(self.cache).exists():
            with self.steps.step("archive of the images") as log:
                images.write_archive(log, self.cache)

    def check_disk(self, missing: list[str], node: bool) -> None:
        """Make sure that what will be made has room.

        Raises:
            Problem: it has not; says how much is needed and how much there is.
        """
        images_at = engine.root_dir() or self.cache.root
        built = self.cache.path("programs", programs.cluster_key()).exists()
        needs = [
            (self.cache.root, _NEED_PROGRAMS if node and not built else 0),
            (images_at, _NEED_NODE_IMAGE if node else 0),
            (images_at, _NEED_IMAGES if missing else 0),
            (images_at, _NEED_CLUSTER if cluster.observe(self.asked) is State.ABSENT else 0),
        ]
        for place in dict.fromkeys((images_at, self.cache.root)):
            need = sum(gib for at, gib in needs if host.same_disk(at, place))
            free = host.free_gib(place)
            if need and free < need:
                raise Problem(f"not enough disk: {need} GiB are needed at {place}, {free:.1f} GiB are free")

    def create(self, image: str | None) -> None:
        """Make the cluster anew; images go into the nodes while Kubernetes starts."""
        with self.steps.quiet("find kind") as log:
            kind = tools.kind(log, self.cache)
        found = cluster.observe(self.asked)
        if found is not State.ABSENT:
            say(f"  the cluster is {found.value}: it is made anew")
            with self.steps.step("remove the old cluster") as log:
                cluster.delete(log, kind)

        def create() -> None:
            with self.steps.step("kind cluster") as log:
                cluster.make(log, kind, image)

        def load(node: str) -> None:
            with self.steps.step(f"images into {node}") as log:
                wait_for(f"containerd of {node} answers", lambda: cluster.takes_images(node), seconds=120, every=0.5)
                images.load(log, self.cache, images.DEPLOYED, node)

        together(create, *((lambda node=node: load(node)) for node in NODES))
        with self.steps.quiet("mark the cluster") as log:
            cluster.finish(log, image)

    def load(self) -> None:
        """Load images into the nodes that miss some."""
        absent = {node: images.absent(node) for node in NODES}
        for node, names in absent.items():
            if names:
                with self.steps.step(f"images into {node}") as log:
                    images.load(log, self.cache, names, node)

    def deploy(self) -> None:
        """Deploy metrics-server and the operator, unless they stand already."""
        with self.steps.quiet("reach the cluster") as log:
            kind = tools.kind(log, self.cache)
            kubectl = tools.kubectl(log, self.cache, cluster.CONTROL_PLANE)
            cluster.reach(log, kind, kubectl)
        if deploy.is_current(kubectl):
            return
        with self.steps.step("metrics-server and operator") as log:
            deploy.metrics_server(log, kubectl)
            deploy.operator(log, tools.helm(log, self.cache))
            deploy.settle(log, kubectl)


def up(cache: Cache) -> None:
    """Bring the cluster up, or mend it; KIND_NODE_IMAGE names a node image to use.

    Raises:
        Problem: what is wrong, in one line.
    """
    Up(cache, os.environ.get("KIND_NODE_IMAGE") or None).run()


def build_images(cache: Cache) -> None:
    """Build the workload images that are missing or of other sources, with no cluster.

    Raises:
        Problem: what is wrong, in one line.
    """
    up = Up(cache, None)
    up.engine()
    up.build(images.missing(), node=False, archive=False)
