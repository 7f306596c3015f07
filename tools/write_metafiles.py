#!/usr/bin/env python3
"""Write what is known of the shipped configs: metafile.yml of each folder, model-index.yml, README.

mim and mmengine (``mmshuffle::faster_rcnn/...``) look configs up in these files. Published figures
come from the papers' tables of the package, everything else from the configs themselves; in the
README.md of a folder with published figures the table of configs is written anew.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from mmshuffle.analysis.model_cost import count_config
from mmshuffle.analysis.tables import Row, Table, load_tables
from mmshuffle.checks.classifier import is_classifier_config
from mmshuffle.engine import cli, shipped
from mmshuffle.engine.config import read_config
from mmshuffle.engine.files import write
from mmshuffle.errors import UserError
from mmshuffle.reporting import markdown_table

EXAMPLE = """example:
  python tools/write_metafiles.py --check
"""
ARXIV = 'https://arxiv.org/abs/'
PAPERS = {
    'ShuffleNetV1': f'{ARXIV}1707.01083',
    'ShuffleNetV1Baseline': f'{ARXIV}1707.01083',
    'ShuffleNetV2': f'{ARXIV}1807.11164',
    'XceptionLike': f'{ARXIV}1807.11164',
    'MobileNetV1': f'{ARXIV}1704.04861',
    'MobileNetV2': f'{ARXIV}1801.04381',
    'DilatedMobileNetV2': f'{ARXIV}1801.04381',
    'SqueezeNet': f'{ARXIV}1602.07360',
    'AlexNet': 'https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks',
}
DATA = {'imagenet': 'ImageNet-1k', 'coco': 'COCO'}
NOTE = '# Written by tools/write_metafiles.py. Results are entered when they have been measured.\n'
# Columns of the tables of classifiers and of detectors, by the keys of their figures.
HEADS = {
    'Published Top 1 Error': {
        'multiply-adds printed, M': 'Published Multiply-Adds (M)',
        'top-1 error published, %': 'Published Top 1 Error',
        'printed in': 'Published In',
    },
    'Published COCO AP': {
        'multiply-adds counted, G': 'Counted Multiply-Adds (G)',
        'at': 'Counted At',
        'COCO minival AP published, %': 'Published COCO AP',
        'printed in': 'Published In',
    },
}
Rows = list[tuple[Table, Row]]


def published_rows() -> dict[str, Rows]:
    """Rows of the papers' tables by their config: the ShuffleNet authors' own runs come first."""
    rows = [(table, row) for table in load_tables().values() for row in table.rows if row.config]
    rows.sort(key=lambda r: ('our impl' not in r[1].model, 'shufflenet' not in r[0].name))
    found: dict[str, Rows] = {}
    for table, row in rows:
        found.setdefault(row.config, []).append((table, row))
    return found


def figures(rows: Rows) -> dict[str, Any]:
    """What the papers print of a config, and the cost of a detector, which few print."""
    trained = [row for _, row in rows if row.has_accuracy]
    if not trained:
        return {}
    costs, first = [row.multiply_adds[0] for _, row in rows if row.multiply_adds], trained[0]
    if first.top1_error is None:
        cost = count_config(str(shipped.locate(first.config)), first.shape).total.multiply_adds
        found = {
            'Published COCO AP': first.published['coco_map'],
            'Counted Multiply-Adds (G)': round(cost / 1e9, 1),
            'Counted At': '{}x{}'.format(*first.shape),
        }
    else:
        found = {'Published Multiply-Adds (M)': round(costs[0])} if costs else {}
        found['Published Top 1 Error'] = first.top1_error
    sources = dict.fromkeys(table.source for table, row in rows if row.has_accuracy)
    return {**found, 'Published In': '; '.join(sources)}


def from_root(path: Path) -> str:
    """A path as the files have it."""
    return path.relative_to(shipped.root()).as_posix()


def collection(folder: Path, name: str, cfg: Config) -> dict[str, Any]:
    """The collection of a config: what its folder has of one backbone."""
    backbone = cfg.model.backbone.type
    data = Path(cfg.train_dataloader.dataset.data_root).name
    parts = [backbone] if is_classifier_config(cfg) else [cfg.model.type, backbone]
    return dict(
        Name=name,
        Metadata={'Training Data': DATA.get(data, data), 'Architecture': parts},
        Paper=dict(URL=PAPERS[backbone]),
        README=from_root(folder / 'README.md'),
    )


def contents() -> Iterator[tuple[Path, str]]:
    """Every file with what it must contain."""
    rows, metafiles = published_rows(), []
    for folder in sorted({path.parent for path in shipped.names().values()}):
        readme = (folder / 'README.md').read_text(encoding='utf-8')
        title = re.match(r'# (.+)', readme)[1]
        configs = {path: read_config(str(path)) for path in sorted(folder.glob('*.py'))}
        single = len({cfg.model.backbone.type for cfg in configs.values()}) == 1
        collections, models = {}, []
        for path, cfg in configs.items():
            name = title if single else f'{title}: {cfg.model.backbone.type}'
            collections.setdefault(name, collection(folder, name, cfg))
            metadata = {'Epochs': cfg.train_cfg.max_epochs}
            if 'base_batch_size' in cfg.get('auto_scale_lr', {}):
                metadata['Batch Size'] = cfg.auto_scale_lr.base_batch_size
            entry = {'Name': path.stem, 'In Collection': name, 'Config': from_root(path)}
            metadata |= figures(rows.get(from_root(path), []))
            models.append({**entry, 'Metadata': metadata})
        metafiles.append(from_root(folder / 'metafile.yml'))
        yield (
            folder / 'metafile.yml',
            _dump(dict(Collections=list(collections.values()), Models=models)),
        )
        yield folder / 'README.md', _with_table(folder, readme, models)
    yield shipped.root() / 'model-index.yml', _dump(dict(Import=metafiles))


def _with_table(folder: Path, readme: str, models: list[dict[str, Any]]) -> str:
    """The README with its table of the configs that have published figures."""
    figure = next((f for f in HEADS if any(f in model['Metadata'] for model in models)), None)
    if figure is None:
        return readme
    rows = []
    for known, model in ((model['Metadata'], model) for model in models):
        if figure in known:
            cells = [str(known.get(key, '-')) for key in HEADS[figure].values()]
            source = re.sub(r' \(arXiv [^)]*\),', '', cells.pop())
            rows.append([Path(model['Config']).name, *cells, source])
    text = markdown_table(['config', *HEADS[figure]], rows)
    head = text.partition('\n')[0]
    before, found, after = readme.partition(head)
    if not found:
        raise UserError(f'{folder / "README.md"} has no table that begins {head}: add it')
    rest = after.partition('\n\n')[2]
    return f'{before}{text}\n' + (f'\n{rest}' if rest else '')


def _dump(content: dict[str, Any]) -> str:
    return NOTE + yaml.safe_dump(content, sort_keys=False, width=1000)


def main(argv: list[str] | None = None) -> None:
    """Write what has changed, or say so."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument('--check', action='store_true', help='write nothing; fail if some is old')
    args = parser.parse_args(argv)
    old = [
        (path, text)
        for path, text in contents()
        if not path.is_file() or path.read_text(encoding='utf-8') != text
    ]
    if args.check and old:
        names = ', '.join(str(path) for path, _ in old)
        raise UserError(f'not up to date: {names}; run python tools/write_metafiles.py')
    for path, text in old:
        write(text.encode(), path)
        print(f'{path} written')


if __name__ == '__main__':
    cli.run(main)
