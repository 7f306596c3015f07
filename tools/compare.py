#!/usr/bin/env python3
"""Compare a table of a paper with what this project counts and has measured.

Costs are counted from the rows' configs, at the rows' image sizes. Accuracies are those of
metrics.json, which tools/test.py writes into the work dir of a run.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from tqdm import tqdm

import mmshuffle  # noqa: F401  (registers everything)
from mmshuffle.analysis import comparison, html, plot
from mmshuffle.analysis.comparison import Compared, compare, count_states
from mmshuffle.analysis.measured import find_notes, find_runs, read_latencies
from mmshuffle.analysis.tables import Table, load_table, load_tables, select_rows
from mmshuffle.engine import cli, files
from mmshuffle.errors import UserError
from mmshuffle.reporting import markdown_table

EXAMPLE = """examples:
  python tools/compare.py --list
  python tools/compare.py shufflenet_v1/table5 --out comparison
  python tools/compare.py shufflenet_v1/table8 --latency pixel.json
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line, and refuse options that do not go together."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument('table', nargs='?', help='paper and table, such as shufflenet_v1/table5')
    parser.add_argument(
        '--list',
        action='store_true',
        help='name the tables, and how many of their rows are built, counted and measured',
    )
    parser.add_argument(
        '--work-dirs',
        nargs='+',
        default=['work_dirs'],
        metavar='DIR',
        help='work dirs of runs, or folders of them (default work_dirs)',
    )
    parser.add_argument(
        '--latency',
        nargs='+',
        default=[],
        metavar='FILE',
        help='files of tools/latency.py, or with the same '
        '{"results": [{"config", "shape": [H, W], "median_ms"}, ...]}',
    )
    text = 'only these: numbers from 1, or parts of their models'
    parser.add_argument('--rows', nargs='+', metavar='ROW', help=text)
    parser.add_argument('--out', metavar='DIR', help='write .md, .csv and a plot into this folder')
    parser.add_argument(
        '--html', metavar='FILE', help='write one HTML file: plots with hover, a sortable table'
    )
    args = parser.parse_args(argv)
    if (args.table is None) != args.list:
        raise UserError('name one table, such as shufflenet_v1/table5, or give --list')
    if args.list and (args.rows or args.out or args.html):
        raise UserError('--list names tables: for --rows, --out and --html name one of them')
    return args


def list_tables(*found: object) -> str:
    """All tables with the states of their rows, as Markdown, and of all rows in words."""
    rows, everything = [], []
    for name, table in tqdm(load_tables().items(), desc='tables', file=sys.stderr, leave=False):
        compared = list(compare(table, *found))
        everything += compared
        rows.append([name, table.title, *map(str, count_states(compared).values())])
    head = ['table', 'title', 'rows', 'built', 'counted', 'measured']
    return f'{markdown_table(head, rows)}\n\n{comparison.summary(everything)}'


def write(folder: Path, table: Table, rows: list[Compared], text: str) -> None:
    """Write a comparison as Markdown, CSV and plot; without matplotlib, the first two."""
    stem = table.name.replace('/', '_')
    contents = {'md': f'{text}\n'.encode(), 'csv': comparison.to_csv(table, rows).encode()}
    try:
        contents['png'] = plot.draw(table, rows)
    except UserError as error:
        print(f'warning: {error}', file=sys.stderr)
    for ending, content in contents.items():
        if content is None:
            print(f'{table.name} has no accuracy to draw: no plot')
            continue
        path = folder / f'{stem}.{ending}'
        files.write(content, path)
        print(f'written: {path}')


def main(argv: list[str] | None = None) -> None:
    """Compare and print."""
    args = parse_args(argv)
    table = None if args.list else load_table(args.table)
    found = find_runs(args.work_dirs), read_latencies(args.latency)
    if table is None:
        print(list_tables(*found))
        return
    rows = list(compare(table, *found, select_rows(table, args.rows) if args.rows else None))
    notes = find_notes(args.work_dirs)
    if notes:  # where the plot shows it, too
        title = f'{table.title} (measured at another scale: see the notes)'
        table = dataclasses.replace(table, title=title, note=' '.join([*notes, table.note]).strip())
    text = comparison.to_markdown(table, rows)
    print(text)
    if args.out:
        print()
        write(Path(args.out), table, rows, text)
    if args.html:
        files.write(html.to_html(table, rows).encode(), args.html)
        print(f'written: {args.html}')


if __name__ == '__main__':
    cli.run(main)
