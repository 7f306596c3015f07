"""A comparison as a plot: accuracy against multiply-adds, and against latency.

One colour a family; hollow marks are published figures, filled ones measured.
"""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, StrMethodFormatter

from mmshuffle.reporting import new_figure, to_png

from .comparison import Compared
from .tables import Table

# Names of the project's own families by the type of their backbones. They look the same in every
# plot: colour and mark go by the place here, and the others follow. The mark is for readers who do
# not tell the colours apart.
FAMILIES = {
    'ShuffleNetV1': 'ShuffleNet V1',
    'ShuffleNetV2': 'ShuffleNet V2',
    'MobileNetV1': 'MobileNet V1',
    'MobileNetV2': 'MobileNet V2',
    'XceptionLike': 'Xception',
    'SqueezeNet': 'SqueezeNet',
    'AlexNet': 'AlexNet',
}
# By matplotlib's names, with plotly's.
MARKS = {
    **{'o': 'circle', 's': 'square', '^': 'triangle-up', 'v': 'triangle-down', 'D': 'diamond'},
    **{'P': 'cross', 'X': 'x', '<': 'triangle-left', '>': 'triangle-right', '*': 'star'},
    'p': 'pentagon',
}
FILLS = dict(none='published', full='measured', bottom='measured time,\npublished accuracy')
FILLS['top'] = 'measured time,\nnot stable'
MAX_LABELLED = 20
LABEL_WIDTH, LABEL_HEIGHT = 90, 7  # in points
Style = tuple[str, str]


class Point(NamedTuple):
    """A mark of the plot."""

    x: float  # multiply-adds in M, or latency in ms
    y: float  # accuracy or AP in percent
    row: Compared  # whose it is
    # ``'none'`` for published figures, ``'full'`` for measured ones, ``'bottom'`` for a measured
    # latency at a published accuracy, ``'top'`` for one that its file calls unstable.
    fill: str


def cost_points(rows: Sequence[Compared]) -> list[Point]:
    """Accuracy against multiply-adds: published against the printed cost, measured at our count."""
    points = []
    for r in rows:
        published, measured = accuracies(r)
        printed = r.row.multiply_adds[0] if r.row.multiply_adds else r.multiply_adds
        points += [
            Point(printed, published, r, 'none'),
            Point(r.multiply_adds, measured, r, 'full'),
        ]
    return [point for point in points if None not in point[:2]]


def latency_points(rows: Sequence[Compared]) -> list[Point]:
    """Accuracy against the time of one image."""
    points = []
    for r in rows:
        published, measured = accuracies(r)
        points.append(Point(r.row.latency_ms, published, r, 'none'))
        y, fill = (published, 'bottom') if measured is None else (measured, 'full')
        for name, milliseconds in r.latency_ms.items():
            points.append(Point(milliseconds, y, r, 'top' if name in r.unstable else fill))
    return [point for point in points if None not in point[:2]]


def accuracies(row: Compared) -> tuple[float | None, float | None]:
    """Published and measured top-1 accuracy, or COCO AP, in percent."""
    if 'coco_map' in row.row.published:
        return row.row.published['coco_map'], row.run and row.run.coco_map
    published, measured = row.row.top1_error, row.run and row.run.top1_error
    return tuple(None if error is None else 100 - error for error in (published, measured))


def draw(table: Table, rows: Sequence[Compared]) -> bytes | None:
    """Draw a comparison as a PNG file; None where the table has no accuracy."""
    drawn = panels(rows)
    if not drawn:
        return None
    figure = new_figure(6.4 * len(drawn) + 1.2, 5.2)
    figure.suptitle(f'{table.source}\n{table.title}', fontsize=10)
    axes = figure.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
    styles = family_styles([row.row.family for row in rows])
    for axis, (label, points) in zip(axes, drawn.items()):
        _draw_panel(axis, points, styles)
        axis.set_xlabel(label)
    axes[0].set_ylabel(accuracy_label(table))
    _add_legend(figure, [point for points in drawn.values() for point in points], styles)
    return to_png(figure)


def accuracy_label(table: Table) -> str:
    """Label of the vertical axis."""
    return 'COCO AP, %' if 'coco_map' in table.columns else 'ImageNet top-1 accuracy, %'


def panels(rows: Sequence[Compared]) -> dict[str, list[Point]]:
    """What there is to draw: marks by the label of their horizontal axis."""
    printed = any(row.row.multiply_adds for row in rows)
    costs = f'multiply-adds{"" if printed else " (counted)"}, M'
    drawn = {costs: cost_points(rows), 'time of one image, ms': latency_points(rows)}
    return {label: points for label, points in drawn.items() if points}


def family_styles(families: Sequence[str]) -> dict[str, Style]:
    """Colour and mark of each family, the same in every plot for the project's own networks."""
    known, marks = list(dict.fromkeys((*FAMILIES.values(), *families))), list(MARKS)
    return {
        name: (f'C{number % 10}', marks[number % len(marks)])
        for number, name in enumerate(known)
        if name in families
    }


def _draw_panel(axis: Axes, points: Sequence[Point], styles: dict[str, Style]) -> None:
    for point in points:
        axis.plot(point.x, point.y, **_mark(*styles[point.row.row.family], point.fill))
    axis.set_xscale('log')
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    axis.minorticks_off()
    axis.margins(x=0.15, y=0.08)
    axis.grid(color='0.9')
    axis.set_axisbelow(True)
    axis.spines[['top', 'right']].set_visible(False)
    labelled = [point for point in points if point.fill == 'none'] or points
    if len(labelled) <= MAX_LABELLED:
        _label(axis, labelled)


def _label(axis: Axes, points: Sequence[Point]) -> None:
    """Write the models beside their marks, from above downwards and none on another."""
    to_dots = axis.transData.transform
    dots_per_point = axis.figure.dpi / 72
    placed: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: -p.y):
        x, y = to_dots((point.x, point.y)) / dots_per_point
        at = y + LABEL_HEIGHT / 2
        for other_x, other_at in placed:
            if abs(other_x - x) < LABEL_WIDTH and abs(other_at - at) < LABEL_HEIGHT:
                at = other_at - LABEL_HEIGHT
        placed.append((x, at))
        beside = dict(xytext=(6, at - y), textcoords='offset points')
        model, place = point.row.row.model, (point.x, point.y)
        axis.annotate(model, place, fontsize=6, color='0.35', **beside)


def _mark(colour: str, marker: str, fill: str) -> dict:
    look = dict(marker=marker, color=colour, fillstyle=fill, markerfacecoloralt='white')
    return dict(look, linestyle='none', markersize=7)


def _add_legend(figure: Figure, points: Sequence[Point], styles: dict[str, Style]) -> None:
    """Name the families by colour, and what hollow and filled mean, as far as they occur."""
    families = {point.row.row.family for point in points}
    fills = {point.fill for point in points}
    entries = [(name, *style, 'full') for name, style in styles.items() if name in families]
    entries += [(label, '0.3', 'o', fill) for fill, label in FILLS.items() if fill in fills]
    marks = [Line2D([], [], label=label, **_mark(*look)) for label, *look in entries]
    figure.legend(handles=marks, loc='outside right upper', frameon=False, fontsize=8)
