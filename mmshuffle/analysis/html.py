"""A comparison as one HTML file that needs no network: plots with hover, and a sortable table."""

from collections.abc import Sequence
from html import escape
from typing import Any

from matplotlib.colors import to_hex

from mmshuffle.errors import UserError

from .comparison import Compared, notes, table_cells
from .plot import FILLS, MARKS, Point, accuracy_label, family_styles, panels
from .tables import Table

PAGE = r"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em; }}
table {{ border-collapse: collapse; }}
th, td {{ border-bottom: 1px solid #ddd; padding: .3em .7em; text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }}
th {{ cursor: pointer; vertical-align: bottom; }}
th[aria-sort=ascending]::after {{ content: " \25b2"; }}
th[aria-sort=descending]::after {{ content: " \25bc"; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{source}</p>
{plot}
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table>
<ul>
{notes}
</ul>
<script>
// Numbers by value, with what has none last; text by the alphabet.
for (const head of document.querySelectorAll('th')) head.onclick = () => {{
  const rising = head.getAttribute('aria-sort') !== 'ascending';
  const body = document.querySelector('tbody');
  const value = row => row.cells[head.cellIndex].textContent;
  const order = (a, b) => {{
    const [x, y] = [a, b].map(s => /^[+-]?[\d.]+( %|\*| \(.*\))?$/.test(s) ? parseFloat(s) : NaN);
    if (isNaN(x) && isNaN(y)) return rising ? a.localeCompare(b) : b.localeCompare(a);
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
    return rising ? x - y : y - x;
  }};
  body.append(...[...body.rows].sort((a, b) => order(value(a), value(b))));
  for (const other of document.querySelectorAll('th')) other.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', rising ? 'ascending' : 'descending');
}};
</script>
</body>
</html>
"""


def to_html(table: Table, rows: Sequence[Compared]) -> str:
    """Format a comparison; published marks are hollow, measured ones filled."""
    head, cells = table_cells(table, rows)
    return PAGE.format(
        title=escape(table.title),
        source=escape(table.source),
        plot=_plot(table, rows),
        head=''.join(f'<th>{escape(name)}</th>' for name in head),
        body='\n'.join(
            f'<tr>{"".join(f"<td>{escape(cell)}</td>" for cell in line)}</tr>' for line in cells
        ),
        notes='\n'.join(f'<li>{escape(note)}</li>' for note in notes(table, rows)),
    )


def _plot(table: Table, rows: Sequence[Compared]) -> str:
    try:
        from plotly.graph_objects import Figure
        from plotly.subplots import make_subplots
    except ImportError:
        raise UserError('--html needs plotly: pip install plotly') from None
    drawn = panels(rows)
    if not drawn:
        return '<p>The table has no accuracy to draw.</p>'
    figure: Figure = make_subplots(1, len(drawn), shared_yaxes=True)
    named: set[tuple[str, str]] = set()
    for column, (label, points) in enumerate(drawn.items(), 1):
        for (family, fill), trace in _traces(points, rows).items():
            trace |= dict(showlegend=(family, fill) not in named, legendgroup=f'{family} {fill}')
            named.add((family, fill))
            figure.add_scatter(**trace, row=1, col=column)
        figure.update_xaxes(title_text=label, type='log', dtick='D2', row=1, col=column)
    figure.update_yaxes(title_text=accuracy_label(table), col=1)
    figure.update_layout(template='plotly_white', height=480, margin=dict(t=30))
    return figure.to_html(full_html=False, include_plotlyjs=True, div_id='plot')


def _traces(points: Sequence[Point], rows: Sequence[Compared]) -> dict[tuple[str, str], dict]:
    """Marks of one family and kind, as plotly takes them."""
    traces: dict[tuple[str, str], dict[str, Any]] = {}
    styles = family_styles([row.row.family for row in rows])
    for point in points:
        family, (colour, mark) = point.row.row.family, styles[point.row.row.family]
        symbol = MARKS[mark] + ('' if point.fill == 'full' else '-open')
        kind = FILLS[point.fill].replace('\n', ' ')
        look = dict(color=to_hex(colour), symbol=symbol, size=10, line=dict(width=2))
        empty = dict(x=[], y=[], text=[], mode='markers', name=f'{family}, {kind}', marker=look)
        trace = traces.setdefault((family, point.fill), empty)
        trace['x'].append(point.x)
        trace['y'].append(point.y)
        trace['text'].append('<br>'.join(map(escape, _origin(point, kind))))
        trace['hovertemplate'] = '%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>'
    return traces


def _origin(point: Point, kind: str) -> list[str]:
    """What a mark is of, and where its figures come from."""
    compared = point.row
    lines = [compared.row.model, kind]
    if compared.path is not None:
        lines.append(f'config {compared.path.name}')
    if point.fill in ('full', 'top') and compared.run:
        lines.append(f'from {compared.run.path}')
    return lines
