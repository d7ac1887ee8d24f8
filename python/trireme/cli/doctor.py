"""`trireme doctor`: what is wrong, and what to do."""

import click

from trireme.cli.connection import Place, Reference, connection_options, names_of, reference
from trireme.cli.output import write


@click.command()
@click.argument(
    "name",
    required=False,
    callback=reference("workerclusters", "workergroups", "workerjobs", "workercronjobs"),
    shell_complete=names_of("workerclusters", "workergroups", "workerjobs", "workercronjobs"),
)
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="How to print.")
@connection_options
def doctor(place: Place, name: Reference | None, output: str | None) -> int:
    """Tell what is wrong with a cluster, the installation or an object.

    Looks at versions, CRDs, the operator, rights, quotas, objects and pods; with a NAME, at that object alone, and
    whether Python and the engine's packages here go with those of its workers. Exit code 1 if something fails, or will.
    """
    from trireme.client.doctor import KINDS, examine
    from trireme.client.versions import compare

    kube = place.kube()
    plurals = name.of(*KINDS) if name else KINDS
    found = list(examine(kube, name.name if name else None, plurals))
    if name and not any(one.error for one in found):
        found += compare(kube, name.name, plurals)
    if output:
        write([one.__dict__ for one in found], output)
    else:
        for one in found:
            mark = click.style("error", fg="red") if one.error else click.style("warning", fg="yellow")
            click.echo(f"{mark}: {one.what}\n  fix: {one.fix}")
        if not found:
            click.echo(f"nothing is wrong ({kube.context}, namespace {kube.namespace})")
    return int(any(one.error for one in found))
