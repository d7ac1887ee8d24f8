"""Which cluster, namespace and object: kubectl's words for them, on every command that needs them."""

import re
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


# By each kind's plural, what kubectl calls it, but for its group.
_TYPES = {
    "workerclusters": ("wc", "workercluster", "workerclusters"),
    "workergroups": ("wg", "workergroup", "workergroups"),
    "workerjobs": ("wj", "workerjob", "workerjobs"),
    "workercronjobs": ("wcj", "workercronjob", "workercronjobs"),
}
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class Reference:
    """An object, as a user names it.

    Args:
        name: of the object.
        plural: of its kind; empty where that was not said.
    """

    name: str
    plural: str = ""

    def of(self, *plurals: str) -> tuple[str, ...]:
        """Return those of some kinds that it may be of."""
        return tuple(plural for plural in plurals if self.plural in ("", plural))


def reference(*plurals: str) -> Callable[[click.Context, click.Parameter, str | None], Reference | None]:
    """Return what reads the name of an object of some kinds, also as kubectl prints it: TYPE/NAME."""

    def read(_: click.Context, __: click.Parameter, text: str | None) -> Reference | None:
        if text is None:
            return None
        kind, slash, name = text.rpartition("/")
        short = kind.lower().removesuffix(".trireme.dev")
        plural = next((one for one, words in _TYPES.items() if short in words), "")
        if slash and plural not in plurals:
            raise click.BadParameter(f"{kind!r} is none of {', '.join(plurals)}")
        if not _NAME.fullmatch(name):
            raise click.BadParameter(f"{name!r} is no name of an object")
        return Reference(name, plural)

    return read


def cluster_name(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    """Read the name of a WorkerCluster."""
    found = reference("workerclusters")(ctx, param, text)
    return found.name if found else None


def names_of(*plurals: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return how a shell completes the name of an object of some kinds."""

    def complete(ctx: click.Context, _: click.Parameter, begun: str) -> list[str]:
        try:
            kube = _place(ctx).kube()
            names = [one["metadata"]["name"] for plural in plurals for one in kube.list(plural)]
        except TriremeError:
            # No cluster, no names: a shell is no place for messages.
            return []
        return sorted({name for name in names if name.startswith(begun)})

    return complete


def _place(ctx: click.Context) -> Place:
    """Return what a command's options say, or those before its name."""
    before = ctx.find_root().params
    return Place(*(ctx.params.get(name) or before.get(name) for name in ("kubeconfig", "context", "namespace")))


def _contexts(ctx: click.Context, _: click.Parameter, begun: str) -> list[str]:
    from trireme.client.kube import contexts

    try:
        names = contexts(_place(ctx).kubeconfig)
    except TriremeError:
        return []
    return sorted(name for name in names if name.startswith(begun))


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where."""
    for option in (
        click.option(
            "-n",
            "--namespace",
            metavar="NAME",
            shell_complete=names_of("namespaces"),
            help="Namespace; the context's if left out.",
        ),
        click.option("--context", metavar="NAME", shell_complete=_contexts, help="Context in the kubeconfig."),
        click.option("--kubeconfig", metavar="FILE", help="Path of the kubeconfig."),
    ):
        command = option(command)
    return command


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets what they say as its first argument, a Place."""

    @place_options
    @wraps(command)
    def with_place(kubeconfig: str | None, context: str | None, namespace: str | None, **options: Any) -> Any:
        return command(_place(click.get_current_context()), **options)

    return with_place
