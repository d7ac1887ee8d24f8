"""`trireme doctor`: what is wrong, and what to do."""

import json

import click

from trireme.cli.connection import Place, connection_options, names_of


@click.command()
@click.argument("name", required=False, shell_complete=names_of("workerclusters", "workerjobs"))
@click.option("-o", "--output", type=click.Choice(["json"]), help="How to print.")
@connection_options
def doctor(place: Place, name: str | None, output: str | None) -> int:
    """Tell what is wrong with a cluster, the installation or an object.

    Looks at versions, CRDs, the operator, rights, quotas, objects and pods; with a NAME, at that cluster or job alone,
    and whether Python and packages here go with a Dask cluster's. Exit code 1 if something fails, or will.
    """
    from trireme.client.doctor import examine
    from trireme.client.versions import compare

    kube = place.kube()
    found = list(examine(kube, name))
    if name and not any(one.error for one in found):
        found += compare(kube, name)
    if output == "json":
        click.echo(json.dumps([one.__dict__ for one in found], indent=2))
    else:
        for one in found:
            mark = click.style("error", fg="red") if one.error else click.style("warning", fg="yellow")
            click.echo(f"{mark}: {one.what}\n  fix: {one.fix}")
        if not found:
            click.echo(f"nothing is wrong ({kube.context}, namespace {kube.namespace})")
    return int(any(one.error for one in found))
