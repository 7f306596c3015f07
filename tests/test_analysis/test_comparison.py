"""Published, counted and measured figures meet in the right row."""

import csv
import io
import json
import math
import os
from pathlib import Path

import pytest

from mmshuffle.analysis import comparison, plot
from mmshuffle.analysis.comparison import Compared, agrees, compare
from mmshuffle.analysis.measured import Run, find_runs, read_latencies
from mmshuffle.analysis.tables import Row, Table, load_table
from mmshuffle.engine import shipped
from tests.conftest import refused

SHUFFLENET = 'configs/imagenet/shufflenet_v1/shufflenetv1-x1.0-g8_8xb128-300k_imagenet.py'
DETECTOR = 'configs/faster_rcnn/faster-rcnn_mobilenetv1-x1.0_c4-300_1x_coco.py'


def write_metrics(folder: Path, config: str, metrics: dict, checkpoint: str = 'a.pth') -> Path:
    folder.mkdir(parents=True)
    path = folder / 'metrics.json'
    path.write_text(json.dumps(dict(config=config, checkpoint=checkpoint, metrics=metrics)))
    return path


def write_latencies(path: Path, *results: dict) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dict(results=results)))
    return path


def make_table(*rows: Row) -> Table:
    return Table('paper/table1', 'Paper, Table 1', 'Networks', rows)


def test_seeds_side_by_side_are_one_run_with_mean_and_range(tmp_path):
    for seed, ap in ((0, 0.12), (1, 0.18), (10, 0.15)):
        metrics = {'coco/bbox_mAP': ap, 'coco/bbox_mAP_50': 2 * ap}
        write_metrics(tmp_path / 'det' / f'seed_{seed}', DETECTOR, metrics)
    for folder in (tmp_path, tmp_path / 'det'):
        run = find_runs([folder])[Path(DETECTOR).stem]
        assert run.coco_map == pytest.approx(15) and run.path == tmp_path / 'det'
        assert run.by_seed('coco_map') == pytest.approx([12, 18, 15])
        assert run.by_seed('top1_error') == []
    table = make_table(Row('D', 'D', dict(coco_map=14.9), config=DETECTOR, shape=(300, 300)))
    rows = list(compare(table, {Path(DETECTOR).stem: run}))
    text = comparison.to_markdown(table, rows)
    assert '| 14.9 | 15.0 (12.0 to 18.0) |' in text and 'of several seeds: their mean' in text
    (record,) = csv.DictReader(io.StringIO(comparison.to_csv(table, rows)))
    assert record['seeds'] == '3' and record['coco_map by seed'] == '12.0; 18.0; 15.0'
    # A later run of the config elsewhere is another one, not a further seed.
    write_metrics(tmp_path / 'again', DETECTOR, {'coco/bbox_mAP': 0.3})
    for path in (tmp_path / 'det').rglob('*.json'):
        os.utime(path, (1, 1))
    assert find_runs([tmp_path])[Path(DETECTOR).stem].coco_map == 30


def test_figures_of_different_settings_and_files_are_kept_apart(tmp_path):
    def write(folder: str, *settings: dict) -> Path:
        case = dict(config=SHUFFLENET, shape=[224, 224], part='model', precision='fp32')
        results = [dict(case, median_ms=10.0 + i, **s) for i, s in enumerate(settings)]
        return write_latencies(tmp_path / folder / 'board.json', *results)

    several = [dict(runtime=r, threads=n) for r in ('ncnn', 'onnxruntime') for n in (1, 4)]
    first, second = write('a', *several), write('b', dict(runtime='ncnn', threads=2))
    table = make_table(Row('Net', 'N', {}, config=SHUFFLENET))
    (row,) = compare(table, {}, read_latencies([first]))
    assert row.latency_ms == {
        'board, ncnn, threads 1': 10,
        'board, ncnn, threads 4': 11,
        'board, onnxruntime, threads 1': 12,
        'board, onnxruntime, threads 4': 13,
    }
    (row,) = compare(table, {}, read_latencies([second]))
    assert row.latency_ms == {'board': 10}
    (row,) = compare(table, {}, read_latencies([first, second]))
    assert len(row.latency_ms) == 5 and row.latency_ms[str(second)] == 10


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (None, 'No such file'),
        ('{', 'is not JSON'),
        ('[]', 'needs results'),
        ('{"results": [{"config": "a", "shape": [1, 2]}]}', 'median_ms'),
        ('{"results": [{"config": "a", "shape": 3, "median_ms": 1}]}', 'needs config, shape'),
        ('{"results": [{"config": "a", "emulated_median_ms": 1}]}', 'an emulated processor'),
    ],
)
def test_a_broken_latency_file_is_named(tmp_path, content, words):
    path = tmp_path / 'l.json'
    if content is not None:
        path.write_text(content)
    with refused(words) as error:
        read_latencies([path])
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    'changes', [dict(config=None), dict(metrics=None), dict(metrics=[1]), dict(config=3)]
)
def test_metrics_of_another_kind_are_named(tmp_path, changes):
    content = dict(config=SHUFFLENET, checkpoint='a.pth', metrics={})
    (tmp_path / 'metrics.json').write_text(json.dumps({**content, **changes}))
    with refused(r'metrics\.json is another kind of file'):
        find_runs([tmp_path])
    for value in ('abc', math.nan, None):
        content['metrics'] = {'coco/bbox_mAP': value, 'coco/cat_precision': math.nan}
        (tmp_path / 'metrics.json').write_text(json.dumps(content))
        with refused(r'metrics\.json: coco/bbox_mAP is .*, no finite number'):
            find_runs([tmp_path])
    (tmp_path / 'metrics.json').write_text('{"metrics": {}}')
    with refused('needs config, checkpoint, metrics'):
        find_runs([tmp_path])


@pytest.mark.parametrize(
    ('published', 'counted', 'same'),
    [
        ((140, 0.5), 141.4, True),  # 1 %
        ((140, 0.5), 141.5, False),
        ((13, 0.5), 13.5, True),  # rounding
        ((13, 0.5), 12.4, False),
        ((1.4, 0.05), 1.35, True),
        (None, 5.0, True),
    ],
)
def test_costs_agree_within_a_percent_or_their_rounding(published, counted, same):
    assert agrees(published, counted) is same


def test_published_figures_are_compared_in_one_unit():
    row = Row('a', 'b', dict(multiply_adds_g=2.3, size_mb=4.8, top1_accuracy=57.5))
    assert row.multiply_adds == (2300, pytest.approx(50))
    # 1,248,424 parameters of 32 bits are 4.76 MB of 2^20 bytes.
    assert row.parameters[0] == pytest.approx(1.2583, abs=1e-4)
    assert agrees(row.parameters, 1.248424)
    assert row.top1_error == 42.5


def test_figures_and_what_is_missing_and_why(tmp_path):
    published = dict(multiply_adds_m=140, top1_error=32.4)
    table = make_table(
        Row('Net', 'V1', published, config=SHUFFLENET),
        Row('Ghost', 'V1', published, config='configs/imagenet/ghost.py'),
        Row('Other', 'Other', published, unbuildable='another project'),
        Row('Blocks', 'Blocks', published, suite='guidelines'),
    )
    write_metrics(tmp_path / 'a', SHUFFLENET, {'accuracy/top1': 67.5, 'accuracy/top5': 87.75})
    rows = list(compare(table, find_runs([tmp_path, tmp_path / 'nowhere'])))
    lines = comparison.to_markdown(table, rows).splitlines()
    (line,) = [line for line in lines if line.startswith('| Net |')]
    cells = [cell.strip() for cell in line.strip('|').split('|')]
    assert cells == ['Net', 'shufflenetv1-x1.0-g8', '140', '138.4', '-1.2 %', '32.4', '32.5']
    assert '4 rows: 2 built, 1 counted, 1 measured.' in lines
    assert '* Blocks: built and measured by tools/latency.py --suite guidelines.' in lines
    assert '* Ghost: configs/imagenet/ghost.py does not exist yet.' in lines
    assert '* Other: not built: another project.' in lines
    assert any('Net: multiply-adds 138.366 M, printed 140 M; no reason' in line for line in lines)
    assert len({line.count('|') for line in lines if line.startswith('|')}) == 1
    read = list(csv.DictReader(io.StringIO(comparison.to_csv(table, rows))))
    assert [line['model'] for line in read] == [row.model for row in table.rows]
    assert read[0]['published multiply_adds_m'] == '140'
    assert read[0]['published top1_error'] == '32.4'
    assert read[0]['counted multiply_adds'] == str(rows[0].cost.total.multiply_adds)
    assert float(read[0]['multiply_adds difference %']) == pytest.approx(-1.167, abs=1e-3)
    assert (read[0]['measured top1_error'], read[0]['measured top5_error']) == ('32.5', '12.25')
    assert read[0]['metrics file'] == str(tmp_path / 'a' / 'metrics.json')


def test_a_config_that_cannot_be_built_does_not_stop_the_table(monkeypatch, tmp_path):
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs' / 'bad.py').write_text("model = dict(type='ShuffleNetV1', groups=5)\n")
    monkeypatch.setattr(shipped, 'root', lambda: tmp_path)
    (row,) = compare(make_table(Row('Bad', 'B', dict(top1_error=1), config='configs/bad.py')))
    assert row.cost is None and 'groups=5' in row.missing


def test_accuracies_of_a_plot_are_where_they_belong():
    row = Row('Net', 'N', dict(multiply_adds_m=140, top1_error=32.4, arm_images_per_s=20.0))
    run = Run(Path('m'), top1_error=33.0)
    cost = next(compare(make_table(Row('a', 'b', {}, config=SHUFFLENET)))).cost
    both = Compared(row, cost=cost, run=run, latency_ms={'board': 60.0})
    points = [(round(p.x), p.y, p.fill) for p in plot.cost_points([both])]
    assert points == [(140, 67.6, 'none'), (138, 67.0, 'full')]
    points = [(p.x, p.y, p.fill) for p in plot.latency_points([both])]
    assert points == [(50.0, 67.6, 'none'), (60.0, 67.0, 'full')]
    untested = Compared(row, cost=cost, latency_ms={'board': 60.0})
    assert [(p.x, p.y, p.fill) for p in plot.latency_points([untested])][1:] == [
        (60.0, 67.6, 'bottom')
    ]
    unstable = Compared(row, latency_ms={'a': 60.0, 'b': 61.0}, unstable=frozenset('b'))
    assert [p.fill for p in plot.latency_points([unstable])] == ['none', 'bottom', 'top']


def test_families_have_different_looks():
    styles = plot.family_styles([row.family for row in load_table('shufflenet_v2/table8').rows])
    assert len(set(styles.values())) == len(styles) > 8
