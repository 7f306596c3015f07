"""The tables are the papers', and their rows are what the project builds."""

import json
import re
import zlib
from dataclasses import replace

import pytest

from mmshuffle.analysis.comparison import compare, disagreements
from mmshuffle.analysis.tables import COLUMNS, half_a_digit, load_table, load_tables
from mmshuffle.engine import shipped
from mmshuffle.engine.config import read_config
from tests.conftest import refused

TABLES = load_tables()
# Of the figures of each paper's tables, as they were compared with the papers one by one.
CHECKED = {
    'mobilenet_v1': 665636629,
    'shufflenet_v1': 1774757390,
    'shufflenet_v2': 2701083602,
    'squeezenet': 374936623,
}


def test_the_figures_are_those_that_were_compared_with_the_papers():
    """After a correction, compare all figures of that paper again before its number is changed."""
    found = dict.fromkeys(CHECKED, 0)
    for name, table in TABLES.items():
        paper = name.partition('/')[0]
        figures = [[row.model, row.shape, row.published] for row in table.rows]
        found[paper] = zlib.crc32(
            json.dumps([name, figures], sort_keys=True).encode(), found[paper]
        )
    assert found == CHECKED


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
            given = [row.config, row.suite, row.unbuildable]
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
