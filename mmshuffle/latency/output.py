"""What a measurement leaves: a JSON file, a Markdown report, a plot."""

import sys
from pathlib import Path

from mmshuffle.engine import files
from mmshuffle.errors import UserError

from . import guideline_report, layers, plot, report
from .record import Record, write_record
from .suites import GUIDELINES


def check(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is measured.

    Raises:
        UserError: It is a folder, has another ending, or its folder is not there.
    """
    if path.suffix != '.json':
        raise UserError(f'--out {path}: give a file that ends in .json')
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f'--out {path}: {path.parent} is no folder, or the file is one')


def to_markdown(record: Record, reference: str | None = None) -> str:
    """The report, with the guidelines' tables or the profile where they were asked for."""
    parts = [report.to_markdown(record, reference)]
    if record['request']['suite'] == GUIDELINES and not record['target']['emulated']:
        for entries in report.by_setting(record['results']):
            parts.append(f'## Guidelines: {report.title(entries[0])}')
            parts.append(guideline_report.to_markdown(entries))
    for entries in report.by_setting(record['profiles']):
        parts.append(f'## Time by type of layer: {report.title(entries[0])}')
        parts.append(layers.to_markdown({entry['config']: entry['by_type'] for entry in entries}))
    return '\n\n'.join(parts)


def write(record: Record, path: Path, reference: str | None = None) -> None:
    """Write all files and print the report."""
    text = to_markdown(record, reference)
    print(text)  # first: a disk that is full cannot take the figures away
    write_record(record, path)
    files.write(f'{text}\n'.encode(), path.with_suffix('.md'))
    written = [path, path.with_suffix('.md')]
    try:
        picture = plot.draw(record)
    except UserError as error:
        print(f'warning: {error}', file=sys.stderr)
        picture = None
    if picture is not None:
        written.append(path.with_suffix('.png'))
        files.write(picture, written[-1])
    print('\nwritten: ' + ', '.join(map(str, written)))
