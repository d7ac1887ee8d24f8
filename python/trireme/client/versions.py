"""Whether what runs here goes with what runs in the workers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trireme.client.doctor import Finding
from trireme.client.environment import Connection
from trireme.client.kube import Kube
from trireme.errors import TriremeError

if TYPE_CHECKING:
    from distributed import Client

# What is pickled here and read there; distributed's own check has more, in a table.
_MUST_MATCH = ("python", "dask", "distributed")
_SHOULD_MATCH = ("cloudpickle", "numpy", "pandas", "msgpack")


def differences(here: Mapping[str, Any], there: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Return what differs so that work fails, and what may.

    Args:
        here: versions by package.
        there: the same of each worker, by its address.
    """
    return _differing(here, there, _MUST_MATCH), _differing(here, there, _SHOULD_MATCH)


def _differing(here: Mapping[str, Any], there: Mapping[str, Mapping[str, Any]], names: tuple[str, ...]) -> list[str]:
    found = []
    for name in names:
        own = here.get(name)
        others = sorted({str(versions[name]) for versions in there.values() if versions.get(name)})
        # What is missing on one side is not used there.
        if own and [other for other in others if minor(other) != minor(str(own))]:
            found.append(f"{name} {own} here, {' and '.join(others)} in the cluster")
    return found


def minor(version: str) -> str:
    """Return the part of a version within which pickles are read."""
    return ".".join(version.split(".")[:2])


def check_dask(client: "Client") -> None:
    """Compare with the scheduler and the workers.

    Raises:
        TriremeError: Python, dask or distributed are other ones there.

    Warns:
        UserWarning: other packages are.
    """
    import warnings

    must, should = _compared(client)
    if must:
        raise TriremeError(
            f"{'; '.join(must)}: what is sent between them could not be read: install the same here,"
            " or give the cluster an image with yours (image=)"
        )
    if should:
        warnings.warn(f"{'; '.join(should)}: install the same if work fails", stacklevel=3)


def compare(kube: Kube, name: str) -> list[Finding]:
    """Look whether Python and packages here go with a Dask cluster's, where distributed is installed here."""
    from importlib.util import find_spec

    item = kube.find("workerclusters", name)
    if item is None or item["spec"]["engine"] != "dask" or find_spec("distributed") is None:
        return []
    from distributed import Client

    with Connection(kube, item) as connection:
        client = Client(connection.env["DASK_SCHEDULER_ADDRESS"], timeout=20)  # type: ignore[no-untyped-call]
        try:
            must, should = _compared(client)
        finally:
            client.close()  # type: ignore[no-untyped-call]
    fix = "install the same here, or give the cluster an image with yours"
    return [*(Finding(one, fix) for one in must), *(Finding(one, fix, error=False) for one in should)]


def _compared(client: "Client") -> tuple[list[str], list[str]]:
    found: Any = client.get_versions()
    there = {"scheduler": found["scheduler"], **found["workers"]}
    return differences(_packages(found["client"]), {name: _packages(one) for name, one in there.items() if one})


def _packages(said: Mapping[str, Any]) -> dict[str, Any]:
    packages = said.get("packages", {})
    return {**packages, "python": packages.get("python") or said.get("host", {}).get("python")}
