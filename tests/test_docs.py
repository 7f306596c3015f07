"""docs/networks.md: its code runs, and its costs, channels and arguments are those of the code."""

import ast
import doctest
import functools
import inspect
import re
from typing import NamedTuple

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from mmshuffle import backbones
from mmshuffle.analysis.comparison import agrees
from mmshuffle.analysis.complexity import Cost
from mmshuffle.analysis.model_cost import count_model
from mmshuffle.analysis.tables import half_a_digit, load_tables
from tests.conftest import REPO
from tests.tiny import on_meta

PAGE = REPO / 'docs' / 'networks.md'
TEXT = PAGE.read_text(encoding='utf-8')
BLOCKS = re.findall(r'^```python\n(.*?)^```', TEXT, re.MULTILINE | re.DOTALL)
# The stage that the classifier follows, where it is not stage 3.
LAST_STAGES = {'ShuffleNetV2': 4, 'SqueezeNet': 2, 'MobileNetV2': 7}
# Classifiers where they are not one linear layer; the releases of ShuffleNet have no bias in it.
HEADS = {
    'ShuffleNetV1': dict(type='LinearHead', bias=False),
    'ShuffleNetV2': dict(type='LinearHead', bias=False),
    'SqueezeNet': dict(type='ConvHead'),
    'AlexNet': dict(type='HiddenLayersHead'),
}
# Networks whose published padding, which their classifiers have, is not what a detector gets.
CLASSIFIER_ARGUMENTS = {name: dict(padding='published') for name in ('SqueezeNet', 'AlexNet')}
# Counted columns, of a network or of its stages, and their decimals.
DIGITS = {'multiply-adds, M': 1, 'parameters, M': 2, 'size, MB': 1}


class Row(NamedTuple):
    """A row of a table whose first heading names a network."""

    network: str
    first: str  # its first cell
    cells: list[tuple[str, str]]  # the other headings with their cells, in order


def read_rows(heading: str) -> list[Row]:
    """Rows of the tables whose first heading is a network's name and these words."""
    rows = []
    for table in re.findall(r'(?:^\|.*\n)+', TEXT, re.MULTILINE):
        head, _, *body = ([c.strip() for c in line.split('|')[1:-1]] for line in table.splitlines())
        network = re.fullmatch(rf'`(\w+)`{heading}', head[0])
        if network:
            rows += [
                Row(network[1], first, list(zip(head[1:], cells, strict=True)))
                for first, *cells in body
            ]
    return rows


COSTS = read_rows(' with')
ARGUMENTS = read_rows(': argument')


@functools.cache
def count(network: str, first: str) -> tuple[dict[str, Cost], dict[str, Cost], tuple[int, ...]]:
    """Costs by part of a classifier and of a detector's backbone, and the channels of all stages.

    The first cell of a row has the arguments, as in a call, and the side of the image if it is not
    224.
    """
    arguments, _, side = first.partition(' at ')
    side = int(side or 224)
    indices = (LAST_STAGES.get(network, 3),)
    cfg = dict(type=network, out_indices=indices, **eval(f'dict({arguments.strip("`")})'))
    backbone = on_meta({**cfg, **CLASSIFIER_ARGUMENTS.get(network, {})})
    ours = isinstance(backbone, backbones.BaseBackbone)
    head = dict(
        type='LinearHead',
        in_channels=backbone.out_channels[-1] if ours else backbone.out_channel,
        num_classes=1000,
    )
    head = on_meta({**head, **HEADS.get(network, {})})
    model = nn.ModuleDict(dict(backbone=backbone, head=head))
    parts = trunk = count_model(model, (side, side)).parts
    if network in CLASSIFIER_ARGUMENTS:
        model['backbone'] = on_meta(cfg)
        trunk = count_model(model, (side, side)).parts
    return parts, trunk, backbone.stage_channels if ours else ()


def counted(row: Row, column: str) -> float | None:
    """What a column ought to say, in its unit; None where nothing is counted for it."""
    costs, trunk, _ = count(row.network, row.first)
    stages = re.fullmatch(r'stages 0-(\d): (.*)', column)
    if stages:
        column = stages[2]
        costs = {f'stage {i}': trunk[f'backbone stage {i}'] for i in range(int(stages[1]) + 1)}
    total = sum(costs.values(), Cost())
    return {
        'multiply-adds, M': total.multiply_adds / 1e6,
        'parameters, M': total.parameters / 1e6,
        'size, MB': total.parameters * 4 / 2**20,
    }.get(column)


def test_the_page_has_its_tables_and_code():
    assert {row.network for row in COSTS} >= set(backbones.__all__) - {'BaseBackbone'}
    assert {row.network for row in ARGUMENTS} == set(backbones.__all__)
    assert len(BLOCKS) >= 7


@pytest.mark.parametrize('row', COSTS, ids=lambda row: f'{row.network}-{row.first}')
def test_figures_are_those_counted_and_printed(row):
    """A star, and only a star, tells that a printed cost is not the counted one."""
    value = None
    for column, cell in row.cells:
        if column == 'printed' and cell != '-':
            figure, star = re.match(r'([\d.]+)(\*?)', cell).groups()
            published = ast.literal_eval(figure)
            assert agrees((published, half_a_digit(published)), value) != bool(star), (value, cell)
        elif column == 'channels':
            assert cell == ', '.join(map(str, count(row.network, row.first)[2][:4]))
        elif column == 'top-1 error, %' and cell != '-':
            rows = (r for table in load_tables().values() for r in table.rows)
            assert float(cell) in {r.top1_error for r in rows}
        value = counted(row, column)
        if value is not None:
            digits = DIGITS[column.rpartition(': ')[2]]
            assert cell == f'{value:.{digits}f}', column


@pytest.mark.parametrize('network', backbones.__all__)
def test_arguments_are_those_of_the_constructor(network):
    """Every argument is named, with its default; common ones are in the base's table."""
    documented = {
        row.first.strip('`'): ast.literal_eval(dict(row.cells)['default'].strip('`'))
        for row in ARGUMENTS
        if row.network == network
    }
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(getattr(backbones, network)).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    if defaults.get('out_indices') == (0, 1, 2, 3) and network != 'BaseBackbone':
        del defaults['out_indices']
    assert documented == defaults


@pytest.mark.parametrize('code', BLOCKS, ids=lambda code: code.split('\n')[0])
def test_code_runs(code):
    """Examples print what they say; a model's neck fits its backbone and has levels P2 to P6."""
    if code.startswith('>>>'):
        test = doctest.DocTestParser().get_doctest(code, {}, 'networks.md', str(PAGE), 0)
        assert test.examples
        assert doctest.DocTestRunner().run(test).failed == 0
        return
    namespace = {}
    exec(code, namespace)
    backbone = dict(namespace['model']['backbone'])
    del backbone['_delete_']
    neck = MODELS.build(
        dict(type='FPN', out_channels=8, num_outs=5, **namespace['model']['neck'])
    ).to('meta')
    levels = neck(on_meta(backbone)(torch.empty(1, 3, 64, 64, device='meta')))
    assert [level.shape[-1] for level in levels] == [16, 8, 4, 2, 1]


@pytest.mark.parametrize('target', sorted(set(re.findall(r'\]\(([^)]+)\)', TEXT))))
def test_links_lead_somewhere(target):
    if target.startswith('#'):
        titles = re.findall(r'^#+ (.+)$', TEXT, re.MULTILINE)
        anchors = {re.sub(r'[^\w -]', '', title).lower().replace(' ', '-') for title in titles}
        assert target[1:] in anchors
    elif not target.startswith('https://'):
        assert (PAGE.parent / target.partition('#')[0]).exists()
