"""Objects that are made for as long as somebody here wants them: surely there, or surely gone."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from trireme.client.kube import ConnectionLost, Kube, Object
from trireme.errors import TriremeError
from trireme.signals import uninterrupted

_SUBMISSION = "trireme.dev/submission"
_ATTEMPTS = 3
_PAUSE_SECONDS = 1.0
_Answer = TypeVar("_Answer")


@dataclass
class _Entry:
    plural: str
    name: str
    uid: str | None = None


class Made:
    """What is made here and may have to be taken back.

    Each object is noted before it is asked for: an answer that is lost, or that Ctrl-C does not wait for, may say that
    it was made. An annotation then tells it from a namesake.

    Args:
        kube: where.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._submission = secrets.token_hex(8)
        self._entries: list[_Entry] = []

    def create(self, plural: str, item: Object, dry_run: bool = False) -> Object:
        """Create an object.

        Raises:
            AlreadyExists: the name is taken.
        """
        return self._ask(plural, item, dry_run, apply=False)

    def apply(self, plural: str, item: Object, dry_run: bool = False) -> Object:
        """Create an object, or change it by server-side apply; one that was there is never taken back."""
        if self._kube.find(plural, item["metadata"]["name"]) is not None:
            return self._kube.apply(plural, item, dry_run)
        return self._ask(plural, item, dry_run, apply=True)

    def _ask(self, plural: str, item: Object, dry_run: bool, apply: bool) -> Object:
        ask = self._kube.apply if apply else self._kube.create
        if dry_run:
            return ask(plural, item, dry_run)
        metadata = item["metadata"]
        annotations = {**(metadata.get("annotations") or {}), _SUBMISSION: self._submission}
        entry = _Entry(plural, metadata["name"])
        self._entries.append(entry)
        try:
            made = ask(plural, {**item, "metadata": {**metadata, "annotations": annotations}})
        except ConnectionLost:
            raise
        except TriremeError:
            # A plain no: whatever has that name is another's.
            self._entries.remove(entry)
            raise
        entry.uid = made["metadata"].get("uid")
        return made

    def take_back(self) -> dict[str, TriremeError]:
        """Delete what was made, the last first, whatever signal comes meanwhile.

        Returns:
            What may be left, as kubectl names it, and why.
        """
        left: dict[str, TriremeError] = {}
        with uninterrupted():
            for entry in [*reversed(self._entries)]:
                try:
                    self._remove(entry)
                    self._entries.remove(entry)
                except TriremeError as error:
                    left[f"{entry.plural}/{entry.name}"] = error
        return left

    def _remove(self, entry: _Entry) -> None:
        if entry.uid is None:
            found = _patiently(lambda: self._kube.find(entry.plural, entry.name))
            metadata = found["metadata"] if found else {}
            if metadata.get("annotations", {}).get(_SUBMISSION) != self._submission:
                return
            entry.uid = metadata.get("uid")
        remove(self._kube, entry.plural, entry.name, entry.uid)


def remove(kube: Kube, plural: str, name: str, uid: str | None) -> None:
    """Delete an object, if it is there and no namesake; ask again where no answer comes."""
    with uninterrupted():
        _patiently(lambda: kube.delete(plural, name, uid))


def _patiently(ask: Callable[[], _Answer]) -> _Answer:
    for _ in range(_ATTEMPTS - 1):
        try:
            return ask()
        except ConnectionLost:
            time.sleep(_PAUSE_SECONDS)  # between two attempts: an API server that is away does not tell when it is back
    return ask()
