"""The lab's commands: up, down, status, demo, enforce, images, push, cache-clean."""

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Callable

from trireme_lab import cluster, engine, images, tools
from trireme_lab.cache import LOCK, Cache
from trireme_lab.console import Steps, say
from trireme_lab.demo import demo
from trireme_lab.enforcer import enforce
from trireme_lab.problem import Problem
from trireme_lab.status import status
from trireme_lab.up import build_images, up


def _up(cache: Cache) -> None:
    say("cluster-up")
    cache.sweep()
    up(cache)
    missing = tools.folder(cache)
    say(f"  kubectl --context {cluster.CONTEXT} get nodes" + (f"   (tools: {missing})" if missing.is_dir() else ""))


def _down(cache: Cache) -> None:
    if not engine.answers():
        raise Problem("no Docker engine answers, so what it runs can't be removed: start it, or `make cluster-up` does")
    with Steps(cache).step("remove the cluster") as log:
        cluster.delete(log, tools.kind(log, cache))


def _images(cache: Cache) -> None:
    build_images(cache)
    say("  " + " ".join(images.tag(image) for image in images.DEPLOYED))


def _push(cache: Cache) -> None:
    registry = os.environ.get("REGISTRY", "").rstrip("/")
    if not registry:
        raise Problem("REGISTRY is not set: give it the registry, such as `make push REGISTRY=registry.example/team`")
    build_images(cache)
    for image in images.PUBLISHED:
        with Steps(cache).step(f"push {image}") as log:
            say(f"  {images.push(log, image, registry)}")


def _cache_clean(cache: Cache) -> None:
    say(f"  {cache.empty() / 1024**3:.1f} GiB freed in {cache.root}")


_COMMANDS: dict[str, Callable[[Cache], None]] = {
    "up": _up,
    "down": _down,
    "status": status,
    "demo": demo,
    "enforce": enforce,
    "images": _images,
    "push": _push,
    "cache-clean": _cache_clean,
}


def main() -> int:
    """Run one command; return the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m trireme_lab", description=__doc__)
    parser.add_argument("command", choices=_COMMANDS)
    command = parser.parse_args().command
    cache = Cache.default()
    start = time.monotonic()
    try:
        cache.root.mkdir(parents=True, exist_ok=True)
        with (cache.root / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Problem("another run of the lab is at work: wait for it to end") from None
            _COMMANDS[command](cache)
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except OSError as problem:
        # Such as a disk that fills up although there seemed to be room.
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    if command in ("up", "demo"):
        say(f"done in {time.monotonic() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
