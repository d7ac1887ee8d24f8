"""A group of commands whose help needs none of their modules."""

import shlex
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """Loads a command when it is run, or when its own help is asked for.

    Args:
        lazy: where each command is, as `module:attribute`, and the line that the group's help has of it.
        elsewhere: commands that another program has, and its name.
        more: as for a `click.Group`.
    """

    def __init__(self, *, lazy: Mapping[str, tuple[str, str]], elsewhere: Mapping[str, str], **more: Any) -> None:
        super().__init__(**more)
        self._lazy, self._elsewhere = dict(lazy), dict(elsewhere)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called."""
        if args[0] in self._elsewhere:
            program = self._elsewhere[args[0]]
            ctx.fail(f"{args[0]} is {program}'s: {program} {shlex.join(args)}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order in which they were given."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, attribute = self._lazy[cmd_name][0].split(":")
        found = getattr(import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lines of the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._lazy.items()])
