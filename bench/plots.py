"""Drawings of what was measured: small SVG files that come out the same for the same figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

matplotlib.rcParams.update(
    {
        # Letters stay letters, and names inside the file depend on nothing but its content.
        "svg.fonttype": "none",
        "svg.hashsalt": "trireme",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
)
BLUE, ORANGE, GREEN, GREY = "#1f77b4", "#e07b00", "#2a8a3e", "#999999"
Points = Sequence[tuple[float, int]]


@dataclass
class Panel:
    """Sizes over time: seconds, and what has been so since.

    Args:
        title: of what.
        end: the last second to show.
        finished: when the last result was there.
        replicas: as many workers as were asked for.
        ready: as many as took work.
        demand: pieces of work that waited or ran; none where nobody tells.
    """

    title: str
    end: float
    finished: float
    replicas: Points
    ready: Points
    demand: Points = field(default_factory=tuple)


def dots(path: Path, rows: Mapping[str, Mapping[str, Sequence[float]]], wanted: float) -> None:
    """Draw single figures, in seconds: a row for each name, a colour for each kind of figure."""
    figure, axes = pyplot.subplots(figsize=(7.5, 0.8 + 0.42 * len(rows)), layout="constrained")
    kinds = list(dict.fromkeys(kind for row in rows.values() for kind in row))
    colours = dict(zip(kinds, (BLUE, GREEN, ORANGE), strict=False))
    for y, row in enumerate(rows.values()):
        for kind, values in row.items():
            offset = 0.22 * (kinds.index(kind) - (len(kinds) - 1) / 2)
            axes.plot(values, [y + offset] * len(values), "o", ms=3.5, alpha=0.6, mew=0, color=colours[kind])
    for kind, colour in colours.items():
        axes.plot([], [], "o", ms=4, mew=0, color=colour, label=kind)
    axes.axvline(wanted, color=BLUE, lw=0.8, ls="--", label=f"{wanted:g} s")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("s")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.7 / (0.8 + 0.42 * len(rows))), ncols=4)
    _save(figure, path)


def shares(path: Path, rows: Mapping[str, Sequence[float]], label: str) -> None:
    """Draw what share of figures, in seconds, is at most so large: a line for each name."""
    figure, axes = pyplot.subplots(figsize=(7.5, 3), layout="constrained")
    for (name, values), colour in zip(rows.items(), (BLUE, ORANGE, GREEN), strict=False):
        if values:
            axes.ecdf(values, color=colour, label=name)
    axes.set_xlim(left=0)
    axes.set_xlabel(label)
    axes.set_ylabel("share")
    axes.legend(loc="lower right")
    _save(figure, path)


def sizes(path: Path, panels: Sequence[Panel]) -> None:
    """Draw panels one below the other, on one scale of time."""
    figure, column = pyplot.subplots(
        len(panels), figsize=(7.5, 2 * len(panels)), sharex=True, squeeze=False, layout="constrained"
    )
    for axes, panel in zip(column[:, 0], panels, strict=True):
        _steps(axes, panel.ready, panel.end, color=GREEN, label="workers ready", fill=True)
        _steps(axes, panel.replicas, panel.end, color=BLUE, label="replicas")
        axes.axvline(panel.finished, color=GREY, lw=0.8, ls=":", label="last result")
        axes.set_title(panel.title, loc="left", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("workers")
        if panel.demand:
            other = axes.twinx()
            _steps(other, panel.demand, panel.end, color=ORANGE, label="work that waits or runs")
            other.set_ylim(bottom=0)
            other.set_ylabel("demand", color=ORANGE)
    column[-1, 0].set_xlabel("s since the work was submitted")
    column[-1, 0].set_xlim(left=-2)
    handles, labels = column[0, 0].get_legend_handles_labels()
    if panels[0].demand:
        handles.append(Line2D([], [], color=ORANGE, lw=1))
        labels.append("work that waits or runs")
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    _save(figure, path)


def _steps(axes: Axes, points: Points, end: float, *, color: str, label: str, fill: bool = False) -> None:
    if not points:
        return
    times, values = zip(*points, (end, points[-1][1]), strict=True)
    if fill:
        axes.fill_between(times, values, step="post", color=color, alpha=0.25, lw=0, label=label)
    else:
        axes.step(times, values, where="post", color=color, lw=1, label=label)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
