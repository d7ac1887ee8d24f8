"""`trireme values`: Helm values."""

import click


@click.group()
def values() -> None:
    """Show, check, edit and compare Helm values."""
