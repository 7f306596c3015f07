"""Weights and checkpoints that other programs wrote are taken by every tool."""

import json
import re
from pathlib import Path

import mmdet
import pytest
import torch

from mmshuffle.engine.checkpoint import from_plain
from mmshuffle.weights import read_checkpoint, read_tensors
from tests.test_tools.conftest import assert_done, run
from tests.tiny import write_coco, write_config

# Neither this project's hooks nor its way of saving; and averages, as many train with.
STOCK = """
default_hooks = dict(checkpoint=dict(backend_args=None))
custom_hooks = [dict(type='EMAHook')]
"""


@pytest.fixture(scope='module')
def stock(tmp_path_factory) -> tuple[Path, Path]:
    """A config, and the checkpoint that MMDetection's own train.py made of it."""
    folder = tmp_path_factory.mktemp('stock')
    config = write_config(folder, write_coco(folder / 'data', images=2), STOCK, epochs=1)
    train = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'train.py'
    assert_done(run(train, config, '--work-dir', folder / 'work'))
    return config, folder / 'work' / 'epoch_1.pth'


def test_mmdetections_own_checkpoint_is_tested(stock, tmp_path):
    config, checkpoint = stock
    assert_done(run('tools/test.py', config, checkpoint, '--work-dir', tmp_path))
    metrics = json.loads((tmp_path / 'metrics.json').read_text())['metrics']
    (log,) = checkpoint.parent.glob('*/*.log')
    (validated,) = re.findall(r'coco/bbox_mAP: ([\d.]+)', log.read_text())
    assert metrics['coco/bbox_mAP'] == float(validated)


def test_mmdetections_own_run_is_resumed(stock, tmp_path):
    config, checkpoint = stock
    more = ('--cfg-options', 'train_cfg.max_epochs=2', '--work-dir', tmp_path)
    assert_done(run('tools/train.py', config, '--resume', checkpoint, *more))
    before, after = read_checkpoint(checkpoint), read_checkpoint(tmp_path / 'epoch_2.pth')
    assert (after['meta']['epoch'], after['meta']['iter']) == (2, 2)
    assert after['meta']['seed'] == before['meta']['seed']
    # The log goes on, and so do the optimiser and the averages.
    history = [
        from_plain(content['message_hub']['log_scalars']['train/loss']).data[0].tolist()
        for content in (before, after)
    ]
    assert len(history[1]) == 2 and history[1][:1] == history[0]
    buffers = [c['optimizer']['state'][0]['momentum_buffer'] for c in (before, after)]
    assert not torch.equal(*buffers)
    assert after['ema_state_dict']['steps'] == 2
    torch.load(tmp_path / 'epoch_2.pth', weights_only=True)


def test_mmdetections_own_checkpoint_starts_another_run(stock, tmp_path):
    config, checkpoint = stock
    options = ('--cfg-options', f'load_from={checkpoint}', 'optim_wrapper.optimizer.lr=1e-30')
    assert_done(run('tools/train.py', config, *options, '--work-dir', tmp_path))
    name = 'backbone.stages.3.branches.2.1.conv.weight'
    start, end = (read_tensors(p)[name] for p in (checkpoint, tmp_path / 'epoch_1.pth'))
    assert torch.equal(start, end)


def test_mmdetections_own_checkpoint_is_exported_converted_and_published(stock, tmp_path, call):
    config, checkpoint = stock
    form = ('--format', 'torchscript', '--part', 'backbone', '--shape', 64, 96)
    assert_done(call('export', config, checkpoint, *form, '--out', tmp_path / 'a.pt'))
    assert_done(call('convert_weights', checkpoint, tmp_path / 'b.pth', '--config', config))
    assert_done(call('publish_weights', checkpoint, tmp_path / 'c'))
    whole = read_checkpoint(checkpoint)['state_dict']
    backbone, (published,) = read_tensors(tmp_path / 'b.pth'), tmp_path.glob('c-*')
    assert all(torch.equal(whole[f'backbone.{name}'], v) for name, v in backbone.items())
    assert read_tensors(published).keys() == whole.keys()
