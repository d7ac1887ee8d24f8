"""Shell completion."""

import click
from click.shell_completion import BashComplete, get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    For example, in ~/.bashrc: source <(trireme completion bash)
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "trireme", "_TRIREME_COMPLETE").source())


# Of cobra, which kubectl completes by: offer no files, and offer files.
_NO_FILES, _FILES = 4, 0


def kubectl() -> None:
    """Complete `kubectl trireme`: the command `kubectl_complete-trireme`, which kubectl asks.

    Its arguments are the words so far, the last of them what is begun. It prints what may follow, one a line, and then
    how kubectl is to go on.
    """
    import sys

    from trireme.cli.main import trireme

    *words, begun = sys.argv[1:] or [""]
    found = BashComplete(trireme, {}, "kubectl trireme", "_TRIREME_COMPLETE").get_completions(words, begun)
    for item in found:
        if item.type == "plain":
            click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(f":{_FILES if any(item.type in ('file', 'dir') for item in found) else _NO_FILES}")
