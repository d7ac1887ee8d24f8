"""`trireme doctor`: what is wrong, and what to do."""

import click

from trireme.cli.connection import Place, connection_options, names_of
from trireme.cli.output import write


@click.command()
@click.argument("name", required=False, shell_complete=names_of("workerclusters", "workerjobs"))
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="How to print.")
@connection_options
def doctor(place: Place, name: str | None, output: str | None) -> int:
    """Tell what is wrong with a cluster, the installation or an object.

    Looks at versions, CRDs, the operator, rights, quotas, objects and pods; with a NAME, at that cluster or job alone,
    and whether what is installed here goes with it: Python and packages with a Dask's, Celery with its workers',
    pyspark with a Spark. Exit code 1 if something fails, or will.
    """
    from trireme.client.doctor import examine
    from trireme.client.versions import compare

    kube = place.kube()
    found = list(examine(kube, name))
    if name and not any(one.error for one in found):
        found += compare(kube, name)
    if output:
        write([one.__dict__ for one in found], output)
    else:
        for one in found:
            mark = click.style("error", fg="red") if one.error else click.style("warning", fg="yellow")
            click.echo(f"{mark}: {one.what}\n  fix: {one.fix}")
        if not found:
            click.echo(f"nothing is wrong ({kube.context}, namespace {kube.namespace})")
    return int(any(one.error for one in found))
