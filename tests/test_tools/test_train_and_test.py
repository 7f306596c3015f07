"""The command lines of training and testing, from end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.test_tools.conftest import Done, assert_done, assert_refused, assert_user_error, run
from tests.tiny import write_coco, write_config


def launch(*command: object, **variables: str) -> Done:
    env = {**os.environ, 'PYTHONPATH': str(REPO), 'OMP_NUM_THREADS': '1', **variables}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=env, cwd=REPO
    )
    return Done(done.returncode, done.stdout, done.stderr)


def torchrun(processes: int, *args: object) -> Done:
    launcher = ('-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}')
    return launch(sys.executable, '-W', 'ignore', *launcher, *args, '--launcher', 'pytorch')


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('trained')
    config = write_config(folder, write_coco(folder / 'data'))
    assert_done(run('tools/train.py', config, '--work-dir', folder / 'work'))
    return folder


def test_test_py_reads_the_checkpoint_and_writes_json(trained, tmp_path):
    arguments = (trained / 'tiny.py', trained / 'work' / 'epoch_2.pth', '--work-dir', tmp_path)
    written = ('--show-dir', 'pictures', '--out', tmp_path / 'out.pkl')
    assert_done(run('tools/test.py', *arguments, *written))
    metrics = json.loads((tmp_path / 'metrics.json').read_text())['metrics']
    assert 0 <= metrics['coco/bbox_mAP'] <= 1
    assert (tmp_path / 'out.pkl').stat().st_size > 0
    assert len(list(tmp_path.glob('*/pictures/*.jpg'))) == 4
    # In the other memory layout the figures are the same.
    assert_done(run('tools/test.py', *arguments, '--memory-format', 'channels_last'))
    assert json.loads((tmp_path / 'metrics.json').read_text())['metrics'] == pytest.approx(
        metrics, abs=1e-3
    )


def test_bad_input_is_one_line_and_exit_code_2(call, trained, tmp_path):
    config, work = trained / 'tiny.py', ('--work-dir', tmp_path / 'work')
    options = (*work, '--cfg-options')
    network, data = 'model.backbone.widen_factor=0.7', 'train_dataloader.dataset.data_root=nowhere'
    for command, *parts in (
        (('train', tmp_path / 'no.py', *work), 'no.py', 'does not exist'),
        (('train', config, *options, network), 'widen_factor=0.7', '0.5, 1.0, 1.5, 2.0'),
        (('train', config, *options, data), 'nowhere', 'does not exist'),
        (('check_config', config, '--cfg-options', 'foo'), 'foo', 'KEY=VALUE'),
        (('test', config, trained, *work), 'is a folder'),
        (('train', config, *options, 'train_cfg.max_epochs=abc'), 'train_cfg.max_epochs', "'abc'"),
        (('train', config, *work, '--resume', 'no.pth'), 'no.pth', 'does not exist'),
        (('test', config, 'no.pth', *work), 'no.pth', 'does not exist'),
    ):
        assert_refused(call(*command), *parts)
    assert not (tmp_path / 'work').exists()
    wider = ('model.backbone.widen_factor=1.0', 'model.neck.in_channels=[24,116,232,464]')
    done = call('test', config, trained / 'work' / 'epoch_2.pth', *options, *wider)
    assert_user_error(done, 'another network', 'backbone.stages.1')
    assert not (tmp_path / 'work' / 'metrics.json').exists()


def test_too_many_unreadable_images_stop_the_run(tmp_path):
    data = write_coco(tmp_path / 'data', images=6)
    for name in ('1.jpg', '3.jpg'):
        (data / 'images' / name).write_bytes(b'\xff\xd8 cut off')
    config = write_config(tmp_path, data)
    options = ('--no-check', '--cfg-options', 'train_dataloader.num_workers=2')
    done = run('tools/train.py', config, '--work-dir', tmp_path / 'work', *options)
    assert_user_error(done, 'cannot be read', 'max_unreadable')
    logged = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert 'is skipped: 1 of at most 1' in logged


@pytest.mark.parametrize(
    ('script', 'given', 'tool'),
    [
        ('slurm_train.sh', ('part', 'job', 'a b.py', '--amp'), 'train.py'),
        ('slurm_test.sh', ('part', 'job', 'a b.py', 'x.pth', '--show-dir', 'p q'), 'test.py'),
    ],
)
def test_the_slurm_scripts_start_one_task_a_gpu(tmp_path, script, given, tool):
    """Against a recorded srun: there is no cluster in a test."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nfor a in "$@"; do echo "$a"; done\n')
    srun.chmod(0o755)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    command = ('bash', REPO / 'tools' / script, *given)
    out, _ = assert_done(launch(*command, PATH=path, GPUS='16', SRUN_ARGS='--time=1 -x n1'))
    words = out.splitlines()
    for option in ('--ntasks=16', '--ntasks-per-node=8', '--gres=gpu:8', '--time=1', '-x', 'n1'):
        assert option in words
    start = words.index('python')
    assert words[start + 1] == '-u' and words[start + 2].endswith(f'tools/{tool}')
    rest = words[start + 3 :]
    assert rest[0] == 'a b.py' and rest[rest.index('--launcher') + 1] == 'slurm'
    assert all(word in words for word in given[2:])


@pytest.mark.slow
def test_the_launch_scripts_train_and_test(trained, tmp_path):
    path, work = f'{Path(sys.executable).parent}:{os.environ["PATH"]}', tmp_path / 'work'
    for script, extra in (('dist_train.sh', ()), ('dist_test.sh', (work / 'epoch_2.pth',))):
        command = ('bash', f'tools/{script}', trained / 'tiny.py', *extra, 2, '--work-dir', work)
        assert_done(launch(*command, PATH=path))
    assert json.loads((work / 'metrics.json').read_text())['metrics']
