"""Which cluster and namespace: kubectl's options, on every command that needs one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from trireme.errors import TriremeError

if TYPE_CHECKING:
    from trireme.client.kube import Kube


@dataclass(frozen=True)
class Place:
    """A namespace of a cluster, as options name it; None for what the kubeconfig says.

    Args:
        kubeconfig: path of the kubeconfig.
        context: in it.
        namespace: in that cluster.
    """

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None

    def kube(self) -> "Kube":
        """Return a way to it.

        Raises:
            TriremeError: there is none.
        """
        from trireme.client.kube import Kube

        return Kube(self.kubeconfig, self.context, self.namespace)


def names_of(*plurals: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return how a shell completes the name of an object of some kinds."""

    def complete(ctx: click.Context, _: click.Parameter, begun: str) -> list[str]:
        place = Place(*(ctx.params.get(name) for name in ("kubeconfig", "context", "namespace")))
        try:
            kube = place.kube()
            names = [one["metadata"]["name"] for plural in plurals for one in kube.list(plural)]
        except TriremeError:
            # No cluster, no names: a shell is no place for messages.
            return []
        return sorted({name for name in names if name.startswith(begun)})

    return complete


def _contexts(ctx: click.Context, _: click.Parameter, begun: str) -> list[str]:
    from trireme.client.kube import contexts

    try:
        names = contexts(ctx.params.get("kubeconfig"))
    except TriremeError:
        return []
    return sorted(name for name in names if name.startswith(begun))


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as its first argument, a Place."""

    @click.option("--kubeconfig", metavar="FILE", help="Path of the kubeconfig.")
    @click.option("--context", metavar="NAME", shell_complete=_contexts, help="Context in the kubeconfig.")
    @click.option(
        "-n",
        "--namespace",
        metavar="NAME",
        shell_complete=names_of("namespaces"),
        help="Namespace; the context's if left out.",
    )
    @wraps(command)
    def with_place(kubeconfig: str | None, context: str | None, namespace: str | None, **options: Any) -> Any:
        return command(Place(kubeconfig, context, namespace), **options)

    return with_place
