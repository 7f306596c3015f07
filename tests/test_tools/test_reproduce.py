"""tools/reproduce.py as a user runs it."""

import functools
import itertools
import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmshuffle.deploy.export import FORMATS
from tests.conftest import REPO
from tests.test_tools.conftest import assert_done, assert_user_error
from tests.tiny import write_coco

TABLE = 'shufflenet_v1/table7'


@pytest.fixture
def tool(call, monkeypatch, tmp_path):
    """Run the tool in an empty folder; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(call, 'reproduce')


def plan_of(output: str) -> dict[str, list[str]]:
    """Cells of the plan by step."""
    rows = [line.strip('| ').split(' | ') for line in output.splitlines() if line[:2] == '| ']
    return {row[0].removesuffix(' training'): row[1:] for row in rows[1:]}


def commands_of(output: str) -> list[list[str]]:
    pairs = itertools.pairwise(output.splitlines())
    return [shlex.split(line) for before, line in pairs if before[:2] == '# ']


def test_the_plan_of_a_table_says_what_is_missing(tool, tmp_path):
    output, _ = assert_done(tool(TABLE, '--dry-run', '--throughput', '1000'))
    assert not any(tmp_path.iterdir())
    plan = plan_of(output)
    # Two rows are copied from another paper.
    assert len(plan) == 6 + 3 and output.count('left out: 1.0 MobileNet-224 (as reported') == 2
    backbone = plan['shufflenetv1-x2.0-g3_8xb128-300k_imagenet']
    assert backbone[1:3] == ['to do', '240 x 1281167']
    operations, hours = map(float, backbone[3:5])
    assert operations == pytest.approx(3 * 524e6 * 240 * 1281167 / 1e15, rel=0.01)
    assert hours == pytest.approx(operations * 1e15 / 1e12 / 3600, rel=0.01)
    assert len(commands_of(output)) == 3 + 6 * 2 + 1


@pytest.mark.parametrize(
    ('table', 'folder'),
    [
        (TABLE, "my runs; $(it's)"),
        ('shufflenet_v1/table8', "my runs; $(it's)"),
        ('mobilenet_v1/table13', 'work_dirs'),
    ],
)
def test_the_tools_understand_the_commands(tool, table, folder):
    output, _ = assert_done(tool(table, '--dry-run', '--work-dir', folder, '--data', 'my coco'))
    commands, load = commands_of(output), functools.cache(runpy.run_path)
    trained = [words[2] for words in commands if words[1].endswith('train.py')]
    assert len(trained) == len(set(trained)) > 2
    for _, path, *words in commands:
        options = load(path)['parse_args'](words)
        if path.endswith('latency.py'):
            assert str(options.out).startswith(f'{folder}/latency/') and options.models
            continue
        stem = Path(options.config).stem
        place = f'{folder}/{stem}'
        assert options.work_dir == (None if folder == 'work_dirs' else place)
        cfg = Config.fromfile(options.config)
        given = options.cfg_options or {}
        for key in given:  # of settings that the config has
            functools.reduce(dict.__getitem__, key.split('.'), cfg.to_dict())
        if path.endswith('test.py'):
            assert options.checkpoint == f'{place}/epoch_{cfg.train_cfg.max_epochs}.pth'
        else:
            assert options.resume == 'auto'
            # 128 images a batch do not make 1024 on one device.
            assert options.accumulate == 'auto'
        if 'init_cfg' in cfg.model.get('backbone', {}):
            cfg.merge_from_dict(given)
            root = cfg.test_dataloader.dataset.data_root
            assert cfg.test_evaluator.ann_file == f'{root}annotations/instances_val2017.json'
            assert root == 'my coco/'
            if path.endswith('train.py'):
                # Its pretraining comes before it.
                before = Path(cfg.model.backbone.init_cfg.checkpoint).parent
                assert str(before.parent) == folder
                names = [Path(config).stem for config in trained]
                assert names.index(before.name) < names.index(stem)
                shared = cfg.model.get('roi_head', {}).get('shared_head')
                assert shared is None or Path(shared.init_cfg.checkpoint).parent == before


def test_the_miniature_takes_one_level_of_cost_from_several_families(tool):
    output, _ = assert_done(tool(TABLE, '--scale', 'miniature', '--dry-run'))
    assert 'not a measurement of the published' in output
    models = [cells[0] for cells in plan_of(output).values()]
    for model in ('ShuffleNet 2x (g=3), 300', '1.0 MobileNet-224 (our impl.), 300'):
        assert models.count(f'backbone of {model}') == 1 and models.count(model) == 2
    assert len(models) == 6
    # Half an hour has time for tests and reports, too.
    assert 0.1 < float(re.search(r'To train: ([\d.]+) hours', output)[1]) < 0.4


@pytest.mark.parametrize(
    ('launch', 'start'),
    [
        ('none', ['python', 'tools/train.py']),
        ('pytorch --gpus 4', ['bash', 'tools/dist_train.sh']),
        ('slurm --gpus 16 --partition gpu', ['env', 'GPUS=16', 'bash', 'tools/slurm_train.sh']),
    ],
)
def test_seeds_share_a_pretraining_however_they_are_launched(tool, launch, start):
    args = '--rows', '2', '--seeds', '3', '5', '--dry-run', '--launcher', *launch.split()
    commands = commands_of(assert_done(tool(TABLE, *args))[0])
    trainings = [words for words in commands if 'train' in words[1] + words[3]]
    assert len(trainings) == 3
    for words, seed in zip(trainings, (None, 3, 5), strict=True):
        assert all(word.endswith(part) for word, part in zip(words, start))
        if seed is not None:
            place = f'work_dirs/faster-rcnn_shufflenetv1-x1.0-g3_c4-300_1x_coco/seed_{seed}'
            assert words[words.index('--work-dir') + 1] == place
            assert words[-1] == f'randomness.seed={seed}'


def test_other_rows_do_not_take_the_place_of_times(tool):
    """Nor do those of another table in the same folder; the same rows find theirs again."""

    def place(*args: str) -> str:
        output, _ = assert_done(tool(*args, '--dry-run'))
        (words,) = (w for w in commands_of(output) if w[1].endswith('latency.py'))
        return words[words.index('--out') + 1]

    tables = (TABLE, '--rows', '1'), (TABLE, '--rows', '2'), ('shufflenet_v1/table8', '--rows', '1')
    places = [place(*args) for args in tables]
    assert len(set(places)) == 3 and places[0] == place(*tables[0])


def test_packages_that_times_need_are_asked_for_before_hours_of_training(
    tool, tmp_path, monkeypatch
):
    monkeypatch.setattr(FORMATS['onnx'], 'packages', ('onnx', 'not_there'))
    found = tool(TABLE, '--scale', 'smoke')
    assert_user_error(found, 'needs not_there: pip install not_there, or give --no-latency')
    assert not any(tmp_path.iterdir())


def test_a_subset_keeps_the_image_size_and_takes_the_users_classes(tool, tmp_path):
    for split in ('train', 'val'):
        source = write_coco(tmp_path / split)
        (tmp_path / 'set' / 'annotations').mkdir(parents=True, exist_ok=True)
        (source / 'annotations.json').rename(tmp_path / 'set' / 'annotations' / f'{split}.json')
        (source / 'images').rename(tmp_path / 'set' / split)
    output, _ = assert_done(tool(TABLE, '--rows', '2', '--subset', 'set', '--dry-run'))
    assert [cells[2] for cells in plan_of(output).values()] == ['8 x 1600', '12 x 4', '12 x 4']


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        ((TABLE, '--rows', 'ResNet'), '--rows ResNet'),
        ((TABLE, '--rows', 'as reported', '--dry-run'), 'none of these rows can be run'),
        ((TABLE, '--gpus', '2'), '--gpus needs --launcher'),
        ((TABLE, '--throughput', '-1'), '--throughput: -1: give'),
        ((TABLE, '--launcher', 'slurm'), '--partition'),
        ((TABLE, '--epochs', '3'), '--epochs needs --subset'),
        ((TABLE, '--scale', 'miniature', '--data', 'x'), "--data is for the paper's scale"),
        ((TABLE, '--scale', 'miniature', '--imagenet', 'x'), 'leave out --imagenet'),
        ((TABLE, '--scale', 'miniature', '--seeds', '-1'), '--seeds: -1: give'),
        ((TABLE, '--subset', 'none', '--dry-run'), 'data folder none does not exist'),
        (('shufflenet_v1/table5', '--scale', 'miniature', '--dry-run'), 'are for detectors'),
        ((TABLE, '--work-dir', 'file', '--dry-run'), 'is a file'),
        ((TABLE, '--work-dir', 'mini', '--dry-run'), 'is of another config, or of other opt'),
        (
            (TABLE, '--scale', 'miniature', '--work-dir', 'mini', '--dry-run'),
            'is of another config',
        ),
    ],
)
def test_bad_input_is_one_line(tool, tmp_path, args, words):
    (tmp_path / 'file').touch()
    (tmp_path / 'mini').mkdir()
    mark = dict(table=TABLE, name='miniature', note='n', epochs=99)
    (tmp_path / 'mini' / 'reproduction.json').write_text(json.dumps(mark))
    assert_user_error(tool(*args), words)
    assert {path.name for path in tmp_path.iterdir()} == {'file', 'mini'}


SMOKE = (
    *(TABLE, '--scale', 'smoke', '--rows', '1x (g=3), 300', '--seeds', '0'),
    *('--no-latency', '--work-dir'),
)
DETECTOR = Path('faster-rcnn_shufflenetv1-x1.0-g3_c4-300_1x_coco')


@pytest.mark.skipif(sys.platform != 'linux', reason='trainings end with their parent on Linux only')
def test_a_run_that_was_killed_ends_as_one_that_was_not(tool, call, started, tmp_path):
    broken, job = tmp_path / 'broken', DETECTOR / 'seed_0'
    words = [sys.executable, REPO / 'tools' / 'reproduce.py', *SMOKE, 'broken']
    with open(tmp_path / 'log', 'wb') as log:
        env = {**os.environ, 'PYTHONPATH': str(REPO)}
        child = subprocess.Popen(words, cwd=tmp_path, stdout=log, stderr=log, env=env)
    while not (broken / job / 'epoch_1.pth').exists():
        assert child.poll() is None, (tmp_path / 'log').read_text()
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (broken / job / 'epoch_3.pth').exists() and not (broken / 'report').exists()
    train, test = commands_of(assert_done(tool(*SMOKE, 'broken', '--dry-run'))[0])
    # The same training at one go, from the same backbone, with the commands of the plan.
    whole = tmp_path / 'whole' / job
    for _, path, *words in (train, test):
        assert words[words.index('--work-dir') + 1] == f'broken/{job}'
        words = [word.replace(f'broken/{job}', f'whole/{job}') for word in words]
        assert_done(call(Path(path).stem, *words))
    assert_done(tool(*SMOKE, 'broken'))
    assert [name for name, *_ in started] == ['train', 'test', 'compare']
    resumed, straight = (
        torch.load(folder / 'epoch_3.pth', weights_only=True)['state_dict']
        for folder in (broken / job, whole)
    )
    for key, value in straight.items():
        assert torch.equal(value, resumed[key]), key
    metrics = json.loads((broken / job / 'metrics.json').read_text())['metrics']
    assert metrics == json.loads((whole / 'metrics.json').read_text())['metrics'] and metrics
    report = (broken / 'report' / 'shufflenet_v1_table7.md').read_text()
    assert 'not a measurement of the published' in report
    assert commands_of(assert_done(tool(*SMOKE, 'broken', '--dry-run'))[0]) == []
