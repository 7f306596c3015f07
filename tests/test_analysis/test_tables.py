"""The tables are the papers', and their rows are what the project builds."""

import json
import re
from dataclasses import replace

import pytest

from mmshuffle.analysis.comparison import compare, disagreements
from mmshuffle.analysis.tables import COLUMNS, half_a_digit, load_table, load_tables
from mmshuffle.engine import shipped
from mmshuffle.engine.config import read_config
from tests.conftest import facts, refused

TABLES = load_tables()
# Figures that must be those of the collection of facts: ours, and their columns, read row by row;
# '|' marks a table that is read column by column, because ours has a row for each of its columns.
TRANSCRIBED = {
    'shufflenet_v1/table2': 'top1_error=g1,g2,g3,g4,g8',
    'shufflenet_v1/table3': 'top1_error=no_shuffle,shuffle',
    'shufflenet_v1/table4': 'top1_error=vgg_like,resnet,xception_like,resnext,shufflenet',
    'shufflenet_v1/table5': 'multiply_adds_m=mflops top1_error=err',
    'shufflenet_v1/table6': 'multiply_adds_m=mflops top1_error=err',
    'shufflenet_v1/table7': 'coco_map=|px300,px600',
    'shufflenet_v1/table8': 'multiply_adds_m=mflops top1_error=err '
    'latency_ms=t224x224,t480x640,t720x1280',
    'shufflenet_v2/table1_G1': 'gpu_batches_per_s=gpu_x1,gpu_x2,gpu_x4 '
    'arm_images_per_s=arm_x1,arm_x2,arm_x4',
    'shufflenet_v2/table2_G2': 'gpu_batches_per_s=gpu_x1,gpu_x2,gpu_x4 '
    'cpu_images_per_s=cpu_x1,cpu_x2,cpu_x4',
    'shufflenet_v2/table3_G3': 'gpu_batches_per_s=gpu_c128,gpu_c256,gpu_c512 '
    'cpu_images_per_s=cpu_c64,cpu_c128,cpu_c256',
    'shufflenet_v2/table4_G4': 'gpu_batches_per_s=gpu_c32,gpu_c64,gpu_c128 '
    'cpu_images_per_s=cpu_c32,cpu_c64,cpu_c128',
    'shufflenet_v2/table6': 'multiply_adds_g=gflops top1_error=top1_err',
    'shufflenet_v2/table7': 'coco_map=mmap_40m,mmap_140m,mmap_300m,mmap_500m '
    'gpu_images_per_s=ips_40m,ips_140m,ips_300m,ips_500m',
    'shufflenet_v2/table8': 'multiply_adds_m=mflops top1_error=top1_err gpu_batches_per_s=gpu '
    'arm_images_per_s=arm',
    'shufflenet_v2/appendix_table1a': 'gpu_batches_per_s=gpu cpu_images_per_s=cpu',
    'shufflenet_v2/appendix_table1b': 'gpu_batches_per_s=gpu cpu_images_per_s=cpu',
    **dict.fromkeys(
        [f'mobilenet_v1/table{n}' for n in (4, 5, 6, 7, 8, 9)],
        'multiply_adds_m=m_mult_adds parameters_m=m_params top1_accuracy=acc',
    ),
    'mobilenet_v1/table13': 'multiply_adds_g=g_mult_adds parameters_m=m_params coco_map=map',
    'squeezenet/table2': 'size_mb=size_mb compression_ratio=ratio top1_accuracy=top1 '
    'top5_accuracy=top5',
    'squeezenet/table3': 'size_mb=mb top1_accuracy=top1 top5_accuracy=top5',
}


def numbers(cells: list) -> list[float]:
    """Numbers of cells, of which one may hold several: 315*/525/474 or 35x."""
    texts = [str(cell) for cell in cells if cell not in (None, '-')]
    return [float(number) for text in texts for number in re.findall(r'\d+(?:\.\d+)?', text)]


@pytest.mark.parametrize('name', TRANSCRIBED)
def test_the_figures_are_transcribed_in_order(name):
    paper, key = name.split('/')
    papers = json.loads(facts('facts/papers.json').read_text())['papers']
    rows = papers[paper]['tables'][key]['rows']
    ours = TABLES[name.partition('_G')[0]].rows
    for column, theirs in (pair.split('=') for pair in TRANSCRIBED[name].split()):
        names = theirs.strip('|').split(',')
        cells = [row[n] for row in rows for n in names]
        if theirs.startswith('|'):
            cells = [row[n] for n in names for row in rows]
        found = [row.published[column] for row in ours if column in row.published]
        assert numbers(found) == numbers(cells), column


@pytest.mark.parametrize(
    ('name', 'key', 'groups'),
    [
        ('shufflenet_v1/table1', 'table1', ('g1', 'g2', 'g3', 'g4', 'g8')),
        ('shufflenet_v2/table5', 'table5', ('x0_5', 'x1', 'x1_5', 'x2')),
    ],
)
def test_the_channels_are_transcribed(name, key, groups):
    paper = name.split('/')[0]
    tables = json.loads(facts('facts/papers.json').read_text())['papers'][paper]['tables']
    by_layer = {row['layer']: row for row in tables[key]['rows']}
    for row, group in zip(TABLES[name].rows, groups, strict=True):
        for layer in ('Stage2', 'Stage3', 'Stage4'):
            assert row.published[f'{layer.lower()}_channels'] == by_layer[layer][group]
        cost = next(layer for layer in by_layer if 'Complexity' in layer or 'FLOPs' in layer)
        assert row.published['multiply_adds_m'] == by_layer[cost][group]


def test_the_config_of_a_row_is_of_the_network_that_its_label_names():
    """Also where no cost would tell them apart, such as with and without the shuffle."""
    named = [
        (row.model, row.config)
        for table in TABLES.values()
        for row in table.rows
        if row.config and re.search('ShuffleNet|MobileNet', row.model)
    ]
    assert len(named) > 100
    for label, config in named:
        width = re.search(r'([\d.]+)x|^([\d.]+) MobileNet', label)
        if width:
            assert f'-x{float(width[1] or width[2])}' in config, label
        groups = re.search(r'g=(\d)', label)
        if groups and 'v1-50' not in label:
            assert f'-g{groups[1]}' in config, label
        for word, part in (
            ('no shuffle', '-noshuffle_'),
            ('[Ss]hallow', '-shallow_'),
            (r'\bSE\b', '-se_'),
            ('^Conv ', '-full_'),
        ):
            assert bool(re.search(word, label)) == (part in config), (label, config)


def test_every_row_says_what_becomes_of_it():
    for table in TABLES.values():
        assert table.rows and table.title and table.source, table.name
        for row in table.rows:
            given = [row.config, row.suite, row.later, row.unbuildable]
            assert sum(value is not None for value in given) == 1, (table.name, row.model)
            assert row.published and set(row.published) <= set(COLUMNS), (table.name, row.model)
            assert min(row.shape) >= 28, (table.name, row.model)
            detector = row.config is not None and '/imagenet/' not in row.config
            assert detector == (row.pretrained is not None), (table.name, row.model)
            for config in filter(None, (row.config, row.pretrained)):
                assert shipped.locate(config) is not None, (table.name, row.model)


@pytest.mark.parametrize('name', TABLES)
def test_the_counted_cost_is_the_published_one_or_the_difference_is_explained(name):
    """Within 1 %, or the rounding of the printed figure; rows whose config is missing are left."""
    rows = list(compare(TABLES[name]))
    assert [row.problem for row in rows if row.problem] == []
    assert disagreements(rows) == []


def test_an_explained_difference_is_there():
    """An explanation that has become wrong is not kept."""
    explained = [
        compared
        for table in TABLES.values()
        for compared in compare(table)
        if compared.row.difference and compared.cost
    ]
    assert len(explained) > 20
    for compared in explained:
        row = replace(compared.row, difference=None)
        assert disagreements([replace(compared, row=row)]), (row.model, row.config)


def test_configs_test_at_the_image_size_of_their_row():
    """Where an accuracy is published; speeds are published at other sizes too."""
    sizes = {
        (path, row.shape)
        for table in TABLES.values()
        for row in table.rows
        if row.config and row.has_accuracy and (path := shipped.locate(row.config))
    }
    assert len(sizes) > 40
    for path, shape in sizes:
        pipeline = read_config(str(path)).test_dataloader.dataset.pipeline
        steps = {step['type']: step for step in pipeline}
        if 'CenterCrop' in steps:
            # The latencies of the ShuffleNet paper are at 224 pixels for AlexNet too (227).
            assert shape[0] == shape[1] and 0 <= steps['CenterCrop']['crop_size'] - shape[0] <= 3
        else:
            assert min(steps['Resize']['scale']) == shape[0], path


def test_half_a_digit_follows_the_printed_digits():
    assert (half_a_digit(140), half_a_digit(2.3), half_a_digit(25.0)) == (0.5, 0.05, 0.05)


def test_a_wrong_name_is_answered_with_the_right_one():
    with refused(r'no table table13.*mobilenet_v1/table13'):
        load_table('table13')
