"""tools/compare.py as a user runs it."""

import csv
import functools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mmshuffle.analysis import tables
from mmshuffle.analysis.comparison import compare
from mmshuffle.analysis.measured import find_runs
from mmshuffle.analysis.plot import panels
from mmshuffle.analysis.tables import load_tables
from tests.test_analysis.test_comparison import write_metrics
from tests.test_tools.conftest import assert_done, assert_refused, assert_user_error


@pytest.fixture
def tool(call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return functools.partial(call, 'compare')


@pytest.fixture
def work_dirs(tmp_path) -> Path:
    folder = tmp_path / 'work_dirs' / 'shufflenetv1-x1.0-g3_8xb128-300k_imagenet'
    config = f'configs/imagenet/shufflenet_v1/{folder.name}.py'
    write_metrics(folder, config, {'accuracy/top1': 67.25, 'accuracy/top5': 87.5})
    return folder.parent


NETS = ('shufflenetv2-x0.5', 'mobilenetv1-x0.25')
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
# Clicks twice on the first header, which turns the names around, and once on that of the cost.
CLICKS = """<script>
const [head, table] = [document.querySelectorAll('th'), document.querySelector('tbody')];
const first = () => table.rows[0].cells[0].textContent;
const all = [first()];
for (const place of [0, 0, 3]) { head[place].click(); all.push(first()); }
const marks = document.querySelectorAll('#plot .points path').length;
document.title = JSON.stringify([all, marks]);
</script></body>"""


def test_an_html_file_that_is_whole(tool, work_dirs, tmp_path):
    pytest.importorskip('plotly', reason='needs plotly: pip install plotly')
    code, output, _ = tool('shufflenet_v1/table8', '--html', 'a b/table.html')
    assert code == 0 and 'written: a b/table.html' in output
    text = (tmp_path / 'a b/table.html').read_text()
    # plotly's own code names addresses of maps, which it loads for maps only.
    page = text[: text.index('<script')] + text[text.rindex('<table>') :]
    assert 'http' not in page and 'src=' not in page
    assert '<td>32.8</td>' in page
    assert 'ShuffleNet V1, measured' in text and 'metrics.json' in text
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip('needs chromium or chrome, to open the file')
    (tmp_path / 'clicked.html').write_text(text.replace('</body>', CLICKS))
    options = ('--headless', '--no-sandbox', '--disable-gpu', '--virtual-time-budget=10000')
    done = subprocess.run(
        [browser, *options, '--dump-dom', (tmp_path / 'clicked.html').as_uri()],
        capture_output=True,
        text=True,
    )
    names, marks = json.loads(re.search('<title>(.*?)</title>', done.stdout)[1])
    rows = list(compare(load_tables()['shufflenet_v1/table8'], find_runs(['work_dirs'])))
    models = [compared.row.model for compared in rows]
    assert names[:2] == [models[0], min(models, key=str.casefold)]
    assert names[2] == max(models, key=str.casefold)
    costs = {r.row.model: r.row.multiply_adds[0] for r in rows if r.row.multiply_adds}
    assert costs[names[3]] == min(costs.values())
    assert marks == sum(map(len, panels(rows).values())) > 10


def test_a_table_with_what_is_measured(tool, work_dirs, tmp_path):
    latency = tmp_path / 'phone.json'
    result = dict(config='shufflenetv1-x1.0-g3', shape=[224, 224], median_ms=21.25)
    results = [dict(result, verdict='unstable'), dict(result, config='alexnet', verdict='stable')]
    latency.write_text(json.dumps(dict(results=results)))
    output, _ = assert_done(tool('shufflenet_v1/table8', '--latency', latency, '--out', 'out'))
    line = next(x for x in output.splitlines() if x.startswith('| ShuffleNet 1x (g=3) |'))
    cells = line.strip('| ').split(' | ')
    assert cells[1:3] == ['shufflenetv1-x1.0-g3', '224x224']
    assert cells[3:] == ['140', '137.5', '-1.8 %', '32.6', '32.8', '37.8', '21.2*']
    assert 'Figures with a * are not stable' in output and ' 2 measured.' in output
    assert output.count('21.2*') == 1  # other rows have the same config at other sizes
    assert next(x for x in output.splitlines() if '| alexnet | 224' in x).endswith('| 21.2 |')
    written = {path.suffix: path for path in (tmp_path / 'out').iterdir()}
    assert written['.md'].read_text().strip() in output
    assert len(list(csv.DictReader(written['.csv'].open()))) == 15
    assert written['.png'].read_bytes().startswith(b'\x89PNG')
    output, _ = assert_done(tool('shufflenet_v2/table5', '--out', 'costs'))
    assert 'has no accuracy to draw' in output and len(list((tmp_path / 'costs').iterdir())) == 2


def test_the_list_has_the_states_of_the_rows_of_every_table(tool, work_dirs, monkeypatch):
    # Those of the second are networks of the latency tool's suite.
    states = {'shufflenet_v1/table2': (15, 15, 15, 1), 'shufflenet_v2/table1': (12, 12, 0, 0)}
    few = {name: load_tables()[name] for name in states}
    monkeypatch.setattr(tables, 'load_tables', lambda: few)
    output, _ = assert_done(tool('--list'))
    rows = [line.strip('| ').split(' | ') for line in output.splitlines()[2:] if '|' in line]
    assert {row[0]: tuple(map(int, row[2:])) for row in rows} == states
    assert output.splitlines()[-1] == '27 rows: 27 built, 15 counted, 1 measured.'


def test_chosen_rows_of_another_scale_say_so(tool, work_dirs, tmp_path):
    content = dict(note='Measured on drawn pictures.')
    (tmp_path / 'work_dirs' / 'reproduction.json').write_text(json.dumps(content))
    output, _ = assert_done(tool('shufflenet_v1/table8', '--rows', '1x (g=3)', '10'))
    models = [line.split('|')[1].strip() for line in output.splitlines() if line[:3] == '| S']
    assert models == ['ShuffleNet 1x (g=3)'] * 3
    assert '| AlexNet |' in output and '\n* Measured on drawn pictures.' in output
    assert '(measured at another scale: see the notes)**' in output.splitlines()[0]


def test_configs_of_ones_own_are_rows_of_a_table(tool, tmp_path):
    names = [f'faster-rcnn_{net}_fpn_1xb4-6e_coco-320-person' for net in NETS]
    for name, figures in zip(names, ((0.2, 0.22), (0.1, 0.15))):
        for seed, figure in enumerate(figures):
            folder = tmp_path / 'work_dirs' / name / f'seed_{seed}'
            write_metrics(folder, f'{name}.py', {'coco/bbox_mAP': figure})
    output, _ = assert_done(tool(*names, '--shape', '96', '128', '--out', 'out'))
    assert [line.split('|')[1].strip() for line in output.splitlines()[4:6]] == list(NETS)
    assert '| 21.0 (20.0 to 22.0) |' in output and '| 12.5 (10.0 to 15.0) |' in output
    assert 'published' not in output and (tmp_path / 'out' / 'configs.png').is_file()
    assert_refused(tool(names[0]), 'give --shape H W')
    assert_refused(tool(names[0], 'shufflenetv1-x1.0-g3', '--shape', '96', '128'), 'one kind')


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        ('', 'name one table'),
        ('table5 --list', 'name one table'),
        ('shufflenet_v1/table9', 'no table shufflenet_v1/table9'),
        ('shufflenet_v1/table5 --rows 99', '--rows 99'),
        ('shufflenet_v1/table5 --shape 96 128', '--shape is for configs'),
        ('shufflenetv2-x0.5 --shape -1 48', '--shape: -1: give'),
        ('shufflenetv2-x0.5 --shape 0 0', '--shape: 0: give'),
        ('shufflenet_v1/table5 --rows ResNet', 'has no such row: 1 '),
        ('--list --out x', 'name one of them'),
        ('shufflenet_v1/table5 --latency none.json', 'none.json cannot be read'),
        ('mobilenet_v1/table4 --out file/inside', 'write file/inside'),
    ],
)
def test_bad_input_is_one_line(tool, tmp_path, args, words):
    (tmp_path / 'file').touch()
    assert_user_error(tool(*args.split()), words)
