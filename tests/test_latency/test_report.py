"""The file of a measurement, its report, and the comparison of two."""

import copy
import functools
import json
import operator
import re

import numpy as np
import pytest

from mmshuffle.analysis.measured import read_latencies
from mmshuffle.engine.files import write_json
from mmshuffle.latency import layers, plot, report
from mmshuffle.latency.difference import difference_table
from mmshuffle.latency.measure import Recording, groups
from mmshuffle.latency.plan import Case, Network, setting
from mmshuffle.latency.record import check_path, make_record, notes_on, read_record, write_results
from mmshuffle.latency.report import to_markdown
from mmshuffle.latency.request import make_request, replay
from mmshuffle.latency.targets import EmulatedTarget, LocalTarget
from tests.conftest import refused

from .tiny import check_schema

# Milliseconds on a made-up device; the second and the third cannot be told apart.
MEDIANS = {'shufflenetv1-x1.0-g3': 20.0, 'alexnet': 90.0, 'mobilenetv1-x1.0': 90.02}
BOUNDS = r'\[\d+\.\d{3} to \d+\.\d{3}\]'
STATE = dict(khz={'0': 1800000}, governor={}, celsius={}, throttling={}, load=0.0)
CORE = dict(number=0, kind='Cortex-A72', max_khz=None, capacity=None)
DEVICE = dict.fromkeys(('soc', 'machine', 'os', 'kernel', 'python', 'libc'), 'made up')
DEVICE |= dict(cores=[CORE], clusters=[[0]], memory_mb=4000)


def measured(number: int, name: str, median: float, side: int = 224, **how) -> Case:
    case = Case(number, Network(name, None), (1, 3, side, side), setting('ncnn', **how))
    case.version, case.cpu = '1.0', [1.0]
    case.gate = dict(passed=True, error=1e-7, tolerance=1e-3)
    noise = np.random.default_rng(number).standard_normal((3, 10, 10))
    case.sessions = (median * (1 + 0.01 * noise)).tolist()
    return case


def make_states(**changes) -> list[dict]:
    where = dict(session=0, shape=[224, 224], memory_available_mb=1, **setting('ncnn'))
    before = dict(where, when='before', **copy.deepcopy(STATE))
    return [before, dict(before, when='after', **changes)]


def recording_of(medians: dict[str, float], sides=(224,)) -> Recording:
    cases = [
        (name, median * side / 224, side) for side in sides for name, median in medians.items()
    ]
    found = [measured(n, name, median, side) for n, (name, median, side) in enumerate(cases)]
    return Recording(found, DEVICE, make_states())


def record_of(recording: Recording, target=None, **request) -> dict:
    asked = make_request({'models': list(MEDIANS), **request})
    record = make_record(recording, target or LocalTarget(), asked)
    return json.loads(json.dumps(record))


@pytest.fixture
def emulated(tmp_path, monkeypatch) -> EmulatedTarget:
    (tmp_path / 'usr/bin').mkdir(parents=True)
    (tmp_path / 'usr/bin/python3').touch()
    monkeypatch.setattr('shutil.which', lambda name: f'/usr/bin/{name}')
    return EmulatedTarget(str(tmp_path))


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr('mmshuffle.latency.statistics.RESAMPLES', 100)


def rows_of(text: str) -> dict[str, list[str]]:
    lines = [line.strip('| ').split(' | ') for line in text.splitlines() if line.startswith('| ')]
    return {cells[0]: cells for cells in lines}


def table_of(text: str) -> dict[str, dict[str, str]]:
    """Cells by the name of their row, then by the heading of their column."""
    head, *rows = rows_of(text).values()
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def test_table_has_ranks_and_the_published_ratios():
    text = to_markdown(record_of(recording_of(MEDIANS)))
    rows = table_of(text)
    alexnet = rows['alexnet']
    assert alexnet['rank'] == '2 to 3' and rows['shufflenetv1-x1.0-g3']['rank'] == '1'
    ratio, interval = alexnet['× shufflenetv1-x1.0-g3 [95 % interval]'].split(maxsplit=1)
    assert float(ratio) == pytest.approx(4.5, rel=0.01) and re.fullmatch(BOUNDS, interval)
    assert alexnet['× in V1 paper (Snapdragon 820)'] == '4.87'
    assert alexnet["× in ncnn's runs on 43 ARM devices"] == '5.06 [2.95 to 21.70]'
    assert alexnet['the time is'] == 'stable' and alexnet['the ratio is'] == 'reliable'
    assert 'from 3 sessions' in text and 'about 75 % of cases' in text
    text = to_markdown(record_of(recording_of(MEDIANS)), 'alexnet')
    assert '× alexnet' in text and "ncnn's" not in text


def test_other_published_figures_stand_beside_those_of_their_networks():
    """Arm's, and those of ShuffleNet V2, Table 8: 24.4 and 21.8 images/s."""
    medians = {'shufflenetv2-x1.0': 4.0, 'squeezenet1.0': 6.0, 'shufflenetv1-x1.0-g3': 9.0}
    rows = table_of(to_markdown(record_of(recording_of(medians)), 'shufflenetv2-x1.0'))
    for column, cells in {
        "× in Arm's runs (Raspberry Pi 5, int8)": ['1.00', '1.40', '-'],
        '× in V2 paper (Snapdragon 810)': ['1.00', '-', '1.12'],
    }.items():
        assert [rows[name][column] for name in medians] == cells
    elsewhere = to_markdown(record_of(recording_of(medians, sides=(32,))), 'shufflenetv2-x1.0')
    assert '× in' not in elsewhere


def test_accuracy_stands_beside_the_times_of_int8():
    recording = recording_of(MEDIANS)
    for case in recording.cases:
        case.setting = setting('ncnn', precision='int8')
    accuracy = dict(name='top-1', fp32=66.2, int8=65.9, weights='a.pth', file='a.json')
    recording.cases[1].accuracy = accuracy
    record = record_of(recording)
    check_schema(record)
    found = [row['int8 (against fp32)'] for row in table_of(to_markdown(record)).values()]
    assert found == ['-', 'top-1 65.9 (-0.3), a.pth', '-']


def test_forms_of_a_network_are_ranked_with_each_other():
    recording = recording_of(MEDIANS)
    free = measured(3, 'shufflenetv1-x1.0-g3', 10.0, shuffle='free-8')
    recording.cases.append(free)
    apart = [measured(4, 'alexnet', 9.0, side=448), measured(5, 'alexnet', 9.0, threads=2)]
    assert [len(group) for group in groups([*recording.cases, *apart])] == [4, 1, 1]
    record = record_of(recording)
    check_schema(record)
    text = to_markdown(record)
    rows = rows_of(text)
    assert text.count('## 224x224') == 1 and list(rows).count('shufflenetv1-x1.0-g3') == 1
    rank, ratio = rows['shufflenetv1-x1.0-g3 (free-8)'][8:10]
    assert rank == '1' and float(ratio.split()[0]) == pytest.approx(0.5, rel=0.01)
    assert rows['shufflenetv1-x1.0-g3'][8:10] == ['2', '1.000 [1.000 to 1.000]']
    difference = difference_table(dict(a=record, b=record))
    assert len(rows_of(difference)) == 5 and difference.count('same') == 8


def test_counts_are_ratios_beside_the_published_ones_and_never_times(emulated):
    recording = recording_of(MEDIANS)
    for case in recording.cases:
        case.sessions = []
        executed = dict.fromkeys(
            (*report.COUNTED.values(), 'other'), int(MEDIANS[case.network.name] * 1e6)
        )
        layer = dict(executed, name='a', type='Convolution 1x1')
        case.counts = dict(executed=executed, layers=[layer])
    record = record_of(recording, emulated)
    check_schema(record)
    text = to_markdown(record)
    assert 'ms' not in text.replace("ncnn's runs", '') and 'COUNTS, no times' in text
    alexnet = table_of(text.partition('Instructions by type')[0])['alexnet']
    assert alexnet['instructions'] == f'{MEDIANS["alexnet"]:.2f}'
    assert float(alexnet['× shufflenetv1-x1.0-g3']) == pytest.approx(4.5, rel=0.01)
    assert alexnet['× in V1 paper (Snapdragon 820)'] == '4.87'
    assert f'{MEDIANS["alexnet"]:.3f} (100%)' in rows_of(text)['alexnet']


def test_emulated_times_are_labelled_and_neither_ranked_nor_compared_nor_drawn(emulated, tmp_path):
    record = record_of(recording_of(MEDIANS, sides=(224, 448)), emulated)
    check_schema(record)
    text = to_markdown(record)
    assert 'EMULATED' in text and '| emulated median ms |' in text
    assert 'rank' not in text.partition('## ')[2] and '×' not in text
    assert plot.draw(record) is None
    write_json(record, tmp_path / 'emulated.json')
    with refused('emulated'):
        read_latencies([tmp_path / 'emulated.json'])
    with refused('emulation'):
        difference_table(dict(a=record_of(recording_of(MEDIANS)), b=record))


def test_what_is_missing_is_said():
    recording = recording_of(MEDIANS)
    recording.problem = 'the connection was lost'
    recording.cases[1].failure = dict(stage='gate', message='outputs differ')
    recording.cases[1].sessions = recording.cases[2].sessions = []
    record = record_of(recording)
    check_schema(record)
    assert record['complete'] is False and len(record['results']) == 1
    text = to_markdown(record)
    assert '**Incomplete: the connection was lost**' in text and 'alexnet: outputs differ' in text


@pytest.mark.parametrize(
    'name, value, note',
    [
        ('throttling', {'raspberry pi flags': 0x50004}, 'throttling: raspberry pi flags 0x4'),
        ('throttling', {'raspberry pi flags': 0x40000}, 'throttling: raspberry pi flags 0x40000'),
        ('throttling', {'cooling_device0 cpu0': 2}, 'throttling: cooling_device0 cpu0'),
        ('khz', {'0': 1500000}, 'the fastest core fell from 1800 to 1500 MHz'),
    ],
)
def test_state_of_the_device_speaks_against_figures(name, value, note):
    found = measured(0, 'alexnet', 90.0)
    assert notes_on(found, make_states()) == []
    assert notes_on(found, make_states(**{name: value})) == [note]
    found.cpu = [0.9, 0.7]
    assert notes_on(found, []) == ['other programs took 20% of its core']
    elsewhere = measured(0, 'alexnet', 90.0, threads=2)
    assert notes_on(elsewhere, make_states(**{name: value})) == []


def test_old_throttling_and_cores_that_become_idle_do_not_count():
    old = {'cpu0 count': 7, 'raspberry pi flags': 0x50000}
    states = make_states(throttling=old, khz={'0': 600000, '1': 1800000})
    states[0] |= dict(throttling=dict(old), khz={'0': 1800000, '1': 1800000})
    found = measured(0, 'alexnet', 90.0)
    assert notes_on(found, states) == [] == notes_on(found, states, [1])
    assert notes_on(found, states, [0]) == ['the fastest core fell from 1800 to 600 MHz']


def test_difference_needs_intervals_that_do_not_overlap():
    first = record_of(recording_of(MEDIANS))
    second = record_of(recording_of({**MEDIANS, 'alexnet': 80.0, 'other': 5.0}))
    rows = rows_of(difference_table(dict(a=first, b=second)))
    assert len(rows) == 4  # with the head; what only one of them has is left out
    found = {name.partition(',')[0]: cells for name, cells in rows.items()}
    assert found['alexnet'][4::4] == ['faster'] * 2 and found['alexnet'][7].startswith('-11.')
    assert found['mobilenetv1-x1.0'][4::4] == ['same'] * 2
    assert found['network'][5] == 'a, × shufflenetv1-x1.0-g3'
    other = rows_of(difference_table(dict(a=first, b=second), 'alexnet'))
    assert any(cells[8] == 'slower' for name, cells in other.items() if name.startswith('mobile'))
    second['results'][1]['reasons'] = ['drifts']
    rows = rows_of(difference_table(dict(a=first, b=second)))
    (row,) = [cells for name, cells in rows.items() if name.startswith('alexnet')]
    assert row[4::4] == ['not known: unstable', 'faster']  # the ratio is a figure of its own
    with refused('no network in common'):
        difference_table(dict(a=first, b=record_of(recording_of({'another': 1.0}))))


def test_more_files_show_how_far_they_differ():
    """A machine whose speed changes from file to file, and with it all medians alike."""
    files = {
        str(speed): record_of(recording_of({k: ms * speed for k, ms in MEDIANS.items()}))
        for speed in (1.0, 1.2, 1.1)
    }
    files['1.2']['results'][1]['reasons'] = ['drifts']
    rows = rows_of(difference_table(files))
    (alexnet,) = [cells for name, cells in rows.items() if name.startswith('alexnet')]
    assert alexnet[2:4] == ['20.0%', '2 of 3'] and alexnet[5:] == ['0.0%', '3 of 3']
    assert rows['largest spread'][2] == '20.0%' and rows['largest spread'][5] == '0.0%'


def test_files_of_the_form_before_are_read_and_their_ratios_not_trusted(tmp_path):
    record = dict(record_of(recording_of(MEDIANS)), schema='mmshuffle-latency/1')
    for result in record['results']:
        result['samples_ms'] = [[ms for b in blocks for ms in b] for blocks in result['samples_ms']]
        del result['ratio']
    check_schema(record)
    write_json(record, tmp_path / 'old.json')
    old = read_record(tmp_path / 'old.json')
    alexnet = rows_of(to_markdown(old))['alexnet']
    assert alexnet[-1] == 'unreliable: only 3 turns' and alexnet[9].startswith('4.5')
    assert difference_table(dict(a=old, b=old)).count('same') == 4


@pytest.mark.parametrize('content', ['{', '[]', '{"results": []}', '{"schema": "other/9"}'])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / 'a.json').write_text(content)
    with refused(r'a\.json'):
        read_record(tmp_path / 'a.json')


@pytest.mark.parametrize(
    ('path', 'value', 'words'),
    [
        ('results', None, "results: None is not of type 'array'"),
        ('results.0', 3, r"results\[0\]: 3 is not of type 'object'"),
        ('results.0.median_ms', None, "median_ms: None is not of type 'number'"),
        ('results.0.interval_ms', [1.0], r'interval_ms: \[1.0\] is too short'),
        ('results.0.samples_ms', dict(a=[1] * 999), r"samples_ms: , 1.* is not of type 'array'"),
        *(
            (f'results.0.{key}', ..., rf"results\[0\]: '{key}' is a required property")
            for key in ('p99_ms', 'median_ms', 'samples_ms', 'config')
        ),
        ('results.0.shape', [1, 2, 3], r'shape: \[1, 2, 3\] is too long'),
        ('request.protocol', {}, "request.protocol: 'sessions' is a required"),
        ('device.cores', ..., "device: 'cores' is a required"),
        ('gates', ..., "'gates' is a required"),
    ],
)
def test_damaged_files_are_refused_and_the_place_is_named(tmp_path, path, value, words):
    *parents, last = (int(key) if key.isdigit() else key for key in path.split('.'))
    record = record_of(recording_of(MEDIANS))
    holder = functools.reduce(operator.getitem, parents, record)
    holder[last] = value
    if value is ...:
        del holder[last]
    write_json(record, tmp_path / 'a.json')
    with refused(rf'a\.json is damaged at .*{words}.*; measure again'):
        read_record(tmp_path / 'a.json')


@pytest.mark.parametrize(
    'changes', [dict(surprise=1), dict(models=[1]), dict(protocol=None), dict(threads=['1'])]
)
def test_requests_of_another_form_cannot_be_replayed(changes):
    request = make_request(dict(models=['a']))
    with refused('cannot be replayed'):
        replay({**request, **changes})


def test_on_another_kind_of_target_its_own_options_hold():
    options = dict(models=['a'], cores='big')
    request = make_request(dict(options, target='ssh:a', ssh_config='c', wheels='w'))
    assert replay(request, 'ssh:b') == request
    assert make_request(dict(replay(request, 'local'), target='local')) == make_request(options)
    timed = make_request(dict(options, governor='performance', mlperf=True, reference='a'))
    assert replay(timed, what='gate') == dict(make_request(options), protocol=timed['protocol'])


def test_report_is_written_beside_the_file_and_shown_even_where_the_disk_takes_none(
    tmp_path, capsys
):
    record = record_of(recording_of(MEDIANS, sides=(224, 448)))
    write_results(record, tmp_path / 'board.json')
    assert {path.name for path in tmp_path.iterdir()} == {'board.json', 'board.md', 'board.png'}
    (found,) = read_latencies([tmp_path / 'board.json'])  # by the comparison tool
    assert found.name == 'board'
    assert found.figures['alexnet', (224, 224)][0] == pytest.approx(90, rel=0.01)
    shown = (tmp_path / 'board.md').read_text().strip()
    assert shown in capsys.readouterr().out
    assert plot.draw(record_of(recording_of(MEDIANS))) is None  # one size is no line
    with refused('cannot write'):
        write_results(record, tmp_path / 'board.md' / 'board.json')
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize('name', ['absent/a.json', 'a.txt', '.'])
def test_file_that_cannot_be_written_is_refused_beforehand(tmp_path, name):
    with refused('--out'):
        check_path(tmp_path / name)


def test_profile_is_summed_up_by_type():
    image, grey = [1, 8, 9, 9], [1, 1, 9, 9]
    profile = [
        dict(type='Conv', inputs=[image, [8, 8, 1, 1], [8]], ms=1.0),
        dict(type='Conv', inputs=[image, [8, 2, 1, 1], [8]], ms=8.0),
        dict(type='Conv', inputs=[image, [8, 2, 3, 3], [8]], ms=16.0),
        dict(type='Conv', inputs=[grey, [8, 1, 3, 3], [8]], ms=32.0),
        dict(type='FusedConv', inputs=[image, [8, 1, 3, 3], [8]], ms=2.0),
        dict(type='Transpose', inputs=[image], ms=0.5),
        dict(type='Concat', inputs=[image, image], ms=0.25),
        dict(type='ReorderOutput', inputs=[image], ms=0.125),
    ]
    found = layers.sum_up(profile)
    convs = (layers.POINTWISE, layers.DEPTHWISE, layers.OTHER_CONV)
    kinds = (*convs, layers.ROUTING, layers.LAYOUT)
    assert found == dict(zip(kinds, (9.0, 2.0, 48.0, 0.75, 0.125), strict=True))
    rows = rows_of(report.profile_table({'net': found}))
    assert '9.000 (15%)' in rows['net'] and rows['net'][-1] == '59.875'
