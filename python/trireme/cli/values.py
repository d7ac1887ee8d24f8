"""`trireme values`: Helm values."""

import difflib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from trireme.cli.connection import Place, cluster_name, connection_options, names_of
from trireme.errors import TriremeError
from trireme.values import charts, clusters, editing, layers, reading, rendering, schema, setting
from trireme.values.places import ERROR, Finding, Refused
from trireme.values.reading import Document, Value, plain
from trireme.values.setting import Assignment

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _layered(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add helm's own options for values."""
    for option in (
        click.option("--set-string", "texts", metavar="NAME=TEXT", multiple=True, help="As --set, all of it text."),
        click.option("--set", "sets", metavar="NAME=VALUE", multiple=True, help="A value, as for helm."),
        click.option(
            "-f", "--values", "files", metavar="FILE", multiple=True, help="A values file, as for helm; - for stdin."
        ),
    ):
        command = option(command)
    return command


def _output(*formats: str) -> Decorator:
    return click.option(
        "-o", "--output", type=click.Choice(formats), default=formats[0], show_default=True, help="Format."
    )


@click.group()
def values() -> None:
    """Show, check, edit and compare Helm values.

    CHART is dask, spark, celery or trireme, or the folder of any chart.
    """


def _read(file: str) -> Document:
    return reading.read(_bytes(file), "stdin" if file == "-" else file)


def _bytes(file: str) -> bytes:
    # No more than is enough to see that it is too much.
    most = reading.MAX_BYTES + 1
    if file == "-":
        return sys.stdin.buffer.read(most)
    try:
        with Path(file).open("rb") as opened:
            return opened.read(most)
    except OSError as error:
        raise TriremeError(f"{file}: {error.strerror}") from None


def _settings(sets: Iterable[str], texts: Iterable[str]) -> list[Assignment]:
    found = [item for text in sets for item in setting.parse(text)]
    return found + [item for text in texts for item in setting.parse(text, "--set-string")]


def _user(files: Iterable[str], sets: Iterable[str], texts: Iterable[str]) -> Value:
    return layers.user_values([_read(file) for file in files], _settings(sets, texts))


def _yaml(data: Any) -> str:
    if not isinstance(data, dict | list):
        return f"{editing.scalar(data)}\n"
    import yaml

    return yaml.dump(data, Dumper=clusters.Dumper, sort_keys=False, allow_unicode=True, width=120)


def _written(data: Any, output: str) -> None:
    click.echo(json.dumps(data, indent=2) if output == "json" else _yaml(data).rstrip("\n"))


@values.command()
@click.argument("chart")
@click.argument("path", default="")
@_layered
@_output("table", "yaml", "json")
def show(
    chart: str, path: str, files: tuple[str, ...], sets: tuple[str, ...], texts: tuple[str, ...], output: str
) -> None:
    """Show what a chart's templates see, and where each value comes from.

    PATH, such as resources.limits or env[0].name, shows a part. -o json has the places, too; -o yaml the values alone.
    """
    found = layers.with_defaults(_user(files, sets, texts), charts.load(chart).defaults)
    steps = setting.path_of(path)
    part = layers.at(found, steps)
    if part is None:
        raise TriremeError(f"{path}: there is no such value{schema.nearest(path, _paths(found))}")
    if output == "yaml":
        _written(plain(part), output)
        return
    rows = [(setting.shown(steps + below), value) for below, value in layers.leaves(part)]
    if output == "json":
        _written([{"path": name, "value": plain(value), "from": str(value.place)} for name, value in rows], output)
        return
    table = [("NAME", "VALUE", "FROM"), *((name, _short(plain(value)), str(value.place)) for name, value in rows)]
    widths = [max(len(row[column]) for row in table) for column in (0, 1)]
    for name, value, place in table:
        click.echo(f"{name.ljust(widths[0])}   {value.ljust(widths[1])}   {place}")


def _paths(found: Value) -> list[str]:
    return [setting.shown(path) for path, _ in layers.leaves(found)]


def _short(data: Any) -> str:
    text = json.dumps(data, ensure_ascii=False) if isinstance(data, dict | list) else editing.scalar(data)
    return text if len(text) <= 60 else f"{text[:57]}..."


@values.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--chart", metavar="CHART", help="Put its defaults below.")
@click.option("--set", "sets", metavar="NAME=VALUE", multiple=True, help="A value, as for helm.")
@click.option("--set-string", "texts", metavar="NAME=TEXT", multiple=True, help="As --set, all of it text.")
@_output("yaml", "json")
def merge(
    files: tuple[str, ...], chart: str | None, sets: tuple[str, ...], texts: tuple[str, ...], output: str
) -> None:
    """Merge values files as Helm does: the later wins, maps are merged, lists replaced."""
    user = _user(files, sets, texts)
    _written(plain(layers.with_defaults(user, charts.load(chart).defaults) if chart else user), output)


@values.command()
@click.argument("chart")
@_layered
@click.option("--strict", is_flag=True, help="Warnings fail, too.")
@_output("text", "json")
@click.pass_context
def check(
    ctx: click.Context,
    chart: str,
    files: tuple[str, ...],
    sets: tuple[str, ...],
    texts: tuple[str, ...],
    strict: bool,
    output: str,
) -> None:
    """Check values files, and their sum against the chart's schema: file, line, column, and what was meant.

    Exits with 1 if anything is wrong.
    """
    found = _checked(charts.load(chart), files, sets, texts)
    if output == "json":
        rows = [
            {
                "file": finding.place.source,
                "line": finding.place.line,
                "column": finding.place.column,
                "level": finding.level,
                "rule": finding.rule,
                "message": finding.message,
            }
            for finding in found
        ]
        _written(rows, output)
    else:
        for finding in found:
            click.echo(str(finding))
    if any(strict or finding.level == ERROR for finding in found):
        ctx.exit(1)


def _checked(chart: charts.Chart, files: Iterable[str], sets: Iterable[str], texts: Iterable[str]) -> list[Finding]:
    """Return what is wrong with the files; with their sum only if each is sound."""
    found: list[Finding] = []
    documents: list[Document] = []
    try:
        for file in files:
            try:
                documents.append(_read(file))
            except Refused as refused:
                found.append(refused.finding)
        found += [finding for document in documents for finding in document.findings]
        if not any(finding.level == ERROR for finding in found) and chart.schema is not None:
            user = layers.user_values(documents, _settings(sets, texts))
            found += schema.check(layers.with_defaults(user, chart.defaults), chart.schema)
    except Refused as refused:
        found.append(refused.finding)
    # An error says what a warning at the same place does, and more.
    wrong = {finding.place for finding in found if finding.level == ERROR}
    return [finding for finding in found if finding.level == ERROR or finding.place not in wrong]


@values.command()
@click.argument("file")
@click.argument("path", default="")
@_output("yaml", "json")
def get(file: str, path: str, output: str) -> None:
    """Print a value of a file, as Helm reads it."""
    document = _read(file).sound()
    found = layers.at(document.values, setting.path_of(path))
    if found is None:
        raise TriremeError(f"{file}: there is no {path}{schema.nearest(path, _paths(document.values))}")
    _written(plain(found), output)


@values.command("set")
@click.argument("file")
@click.argument("assignments", nargs=-1, required=True, metavar="NAME=VALUE...")
@click.option("--chart", metavar="CHART", help="Refuse what its schema refuses.")
@click.option("--string", is_flag=True, help="All values are text.")
@click.option("--dry-run", is_flag=True, help="Print what would change, as a diff.")
def set_(file: str, assignments: tuple[str, ...], chart: str | None, string: bool, dry_run: bool) -> None:
    """Set values in a file: comments, order and style stay.

    FILE may be - for stdin to stdout.
    """
    before = _read(file)
    document = before
    for text in assignments:
        for assignment in setting.parse(text, "--set-string" if string else "--set"):
            document = editing.set_value(document, replace(assignment, place=replace(assignment.place, source=text)))
    if chart:
        _must_fit(document, charts.load(chart))
    if dry_run:
        was, will = before.text.splitlines(keepends=True), document.text.splitlines(keepends=True)
        click.echo("".join(difflib.unified_diff(was, will, file, file, n=2)), nl=False)
    elif file == "-":
        click.echo(document.text, nl=False)
    elif document.text != before.text:
        # Newlines as they are.
        Path(file).write_bytes(document.text.encode())


def _must_fit(document: Document, chart: charts.Chart) -> None:
    if chart.schema is None:
        return
    whole = layers.with_defaults(layers.user_values([document]), chart.defaults)
    for finding in schema.check(whole, chart.schema):
        raise Refused(finding)


@values.command()
@click.argument("chart")
@_layered
@click.option("--old", "old", metavar="FILE", multiple=True, help="A values file of before; the defaults if left out.")
@click.option("--release", metavar="NAME", help="Compare with this release as it is live.")
@click.option("--old-chart", metavar="CHART", help="Another chart of before, such as its last version.")
@_output("diff", "json")
@connection_options
def diff(
    where: Place,
    chart: str,
    files: tuple[str, ...],
    sets: tuple[str, ...],
    texts: tuple[str, ...],
    old: tuple[str, ...],
    release: str | None,
    old_chart: str | None,
    output: str,
) -> None:
    """Show which objects an upgrade would change, by the helm command.

    Exits as kubectl diff: 0 nothing changes, 1 something does, more than 1 for errors.
    """
    try:
        if release and (old or old_chart):
            raise TriremeError("--release is what is live: leave --old and --old-chart out")
        new = plain(_user(files, sets, texts))
        after = rendering.Release(
            release or "release", charts.folder(chart), where.namespace, where.context, where.kubeconfig
        )
        if release:
            was, will = rendering.live(after), rendering.upgraded(after, new)
        else:
            before = replace(after, chart=charts.folder(old_chart or chart))
            said = plain(_user(old, (), ()))
            was, again = rendering.rendered(before, said), rendering.rendered(before, said)
            will = rendering.rendered(after, new)
            was, will = rendering.settled(was, again), rendering.settled(will, rendering.rendered(after, new))
    except TriremeError as error:
        # 1 means differences here.
        raise TriremeError(str(error), max(error.code, 2)) from None
    changes = list(rendering.differences(was, will))
    if output == "json":
        _written(rendering.summary(was, will), output)
    else:
        for text in changes:
            click.echo(text, nl=False)
    click.get_current_context().exit(1 if changes else 0)


@values.command("from-cluster")
@click.argument("name", required=False, callback=cluster_name, shell_complete=names_of("workerclusters"))
@click.option("-f", "--filename", "file", metavar="FILE", help="A manifest that it is in, instead; - for stdin.")
@connection_options
def from_cluster(where: Place, name: str | None, file: str | None) -> None:
    """Print a WorkerCluster as a values file that helm install takes."""
    if file is not None:
        found = _in_manifest(file, name or "")
    elif name:
        found = where.kube().get("workerclusters", name)
    else:
        raise click.UsageError("give the NAME of a WorkerCluster, or a manifest by --filename")
    click.echo(clusters.to_file(found), nl=False)


def _in_manifest(file: str, name: str) -> dict[str, Any]:
    found = [
        item
        for item in clusters.manifests(_bytes(file), "stdin" if file == "-" else file)
        if item.get("kind") == clusters.KIND and name in ("", item.get("metadata", {}).get("name"))
    ]
    if not found:
        raise TriremeError(f"{file}: there is no {clusters.KIND} {name}".rstrip())
    if len(found) > 1:
        raise TriremeError(f"{file}: there are {len(found)} {clusters.KIND}s: give the NAME of one")
    return found[0]


@values.command("to-cluster")
@click.argument("file")
@click.option("--engine", type=click.Choice(clusters.ENGINES), help="Which chart the values are for.")
@click.option("--name", metavar="NAME", help="The cluster's.")
@click.option("-n", "--namespace", metavar="NAME", help="The cluster's.")
@_output("yaml", "json")
def to_cluster(file: str, engine: str | None, name: str | None, namespace: str | None, output: str) -> None:
    """Print a values file as a WorkerCluster.

    What from-cluster made needs neither --engine nor --name.
    """
    document = _read(file).sound()
    kept = clusters.kept(document.text)
    engine = engine or kept.get("engine")
    metadata = {
        **kept["metadata"],
        **({"name": name} if name else {}),
        **({"namespace": namespace} if namespace else {}),
    }
    for what, said in (("engine", engine), ("name", metadata.get("name"))):
        if not said:
            raise TriremeError(f"{file} does not say which {what}: give --{what}")
    assert engine is not None
    data = plain(document.values)
    _must_fit(document, charts.load(engine))
    _written(clusters.to_cluster(data, engine, metadata, kept["spec"]), output)
