#!/usr/bin/env python3
"""Compare a table of a paper, or configs, with what this project counts and has measured.

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
from mmshuffle.analysis.tables import Row, Table, load_table, load_tables, select_rows
from mmshuffle.checks import is_classifier_config
from mmshuffle.engine import cli, files, shipped
from mmshuffle.engine.config import read_one_kind
from mmshuffle.errors import UserError
from mmshuffle.reporting import markdown_table

EXAMPLE = """examples:
  python tools/compare.py --list
  python tools/compare.py shufflenet_v1/table5 --out comparison
  python tools/compare.py shufflenet_v1/table8 --latency pixel.json
  python tools/compare.py configs/equal_cost/*person.py --shape 320 480 \\
      --work-dirs work_dirs/equal_cost --html person.html
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line, and refuse options that do not go together."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    add = parser.add_argument
    add('table', nargs='*', help='paper and table, such as shufflenet_v1/table5; or configs')
    cli.add_shape(parser, 'of configs; 224 224 by default, not for detectors')
    text = 'name the tables, and how many of their rows are built, counted and measured'
    add('--list', action='store_true', help=text)
    text, runs = 'work dirs of runs, or folders of them (default work_dirs)', ['work_dirs']
    add('--work-dirs', nargs='+', default=runs, metavar='DIR', help=text)
    text = 'files of tools/latency.py, or with the same '
    text += '{"results": [{"config", "shape": [H, W], "median_ms"}, ...]}'
    add('--latency', nargs='+', default=[], metavar='FILE', help=text)
    add('--rows', nargs='+', metavar='ROW', help='only these: numbers from 1, or parts of models')
    add('--out', metavar='DIR', help='write .md, .csv and a plot into this folder')
    add('--html', metavar='FILE', help='write one HTML file: plots with hover, a sortable table')
    args = parser.parse_args(argv)
    if bool(args.table) == args.list:
        raise UserError('name one table, such as shufflenet_v1/table5, or configs, or give --list')
    if args.list and (args.rows or args.out or args.html or args.shape):
        raise UserError('--list names tables: for --rows, --out and --html name one of them')
    return args


def find_table(names: list[str], shape: list[int] | None) -> Table:
    """The table of a name, or one of configs, each a row."""
    first = names[0]
    if len(names) == 1 and not first.endswith('.py') and shipped.find(first) is None:
        table = load_table(first)
        if shape is not None:
            raise UserError(f'--shape is for configs: the rows of {first} have sizes of their own')
        return table
    configs = read_one_kind(names)
    paths = [Path(path).resolve() for path in configs]
    classify = is_classifier_config(next(iter(configs.values())))
    if not classify and shape is None:
        raise UserError('give --shape H W, the size that the detectors get images in')
    figure = 'top1_error' if classify else 'coco_map'
    parts = [path.stem.split('_') for path in paths]
    rows = [
        Row(
            model='_'.join(p for p in part if len(paths) == 1 or any(p not in q for q in parts)),
            family=plot.FAMILIES.get(cfg.model.backbone.type, cfg.model.backbone.type),
            published={figure: None},
            shape=tuple(shape or Row.shape),
            config=str(path),
        )
        for path, cfg, part in zip(paths, configs.values(), parts)
    ]
    return Table('configs', 'Configs', f'at {rows[0].shape[0]}x{rows[0].shape[1]}', tuple(rows))


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
    """Write a comparison as Markdown, CSV and plot."""
    stem = table.name.replace('/', '_')
    contents = {'md': f'{text}\n'.encode(), 'csv': comparison.to_csv(table, rows).encode()}
    contents['png'] = plot.draw(table, rows)
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
    table = None if args.list else find_table(args.table, args.shape)
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
