"""Configs as people have them become a runner."""

import pytest
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from mmshuffle.engine.config import read_config, require_loops
from mmshuffle.engine.launch import build_runner, has_amp
from tests.conftest import refused
from tests.test_tools.conftest import assert_done, assert_refused, load_tool
from tests.tiny import write_classifier, write_coco, write_config, write_folders


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('launch')
    return write_classifier(folder, write_folders(folder / 'data'), epochs=1)


def read(config, tmp_path) -> Config:
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.launcher, cfg.experiment_name = str(tmp_path), 'none', tmp_path.name
    return cfg


CHECKPOINT = dict(type='CheckpointHook', interval=3)


@pytest.mark.parametrize(
    ('default_hooks', 'interval'),
    [
        (None, 1),
        ({}, 1),
        (dict(checkpoint=None), None),
        (dict(checkpoint=CHECKPOINT, logger=None, visualization=None), 3),
        (dict(visualization=None), 1),
    ],
)
def test_default_hooks_that_are_none(config, tmp_path, default_hooks, interval):
    cfg = read(config, tmp_path)
    cfg.default_hooks = default_hooks
    cfg.custom_hooks = None
    hooks = {type(hook).__name__: hook for hook in build_runner(cfg).hooks}
    added = {'PlainCheckpointHook', 'ReproducibleResumeHook', 'SharedStatisticsHook'}
    assert added | {'RuntimeInfoHook'} <= hooks.keys()
    assert ('LoggerHook' in hooks) == (not default_hooks or 'logger' not in default_hooks)
    checkpoint = hooks.get('CheckpointHook')
    assert (checkpoint and checkpoint.interval) == interval
    assert checkpoint is None or checkpoint.backend_args == dict(backend='atomic')


@pytest.mark.skipif(has_amp(), reason='there is a GPU')
@pytest.mark.parametrize('kind', ['AmpOptimWrapper', 'mmengine.AmpOptimWrapper', AmpOptimWrapper])
def test_mixed_precision_without_a_gpu_is_float32(config, tmp_path, capsys, kind):
    cfg = read(config, tmp_path)
    cfg.optim_wrapper.update(type=kind, loss_scale='dynamic', dtype='float16')
    runner = build_runner(cfg)
    assert 'AmpOptimWrapper needs a GPU' in capsys.readouterr().err
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    assert type(wrapper) is OptimWrapper
    assert wrapper.optimizer.param_groups[0]['lr'] == cfg.optim_wrapper.optimizer.lr


@pytest.mark.parametrize(
    ('missing', 'wanted', 'words'),
    [
        (('val_cfg', 'val_dataloader'), (), 'validation needs .*val_dataloader and val_cfg is mis'),
        (('optim_wrapper',), (), 'training needs .*, and optim_wrapper is missing'),
        (('test_cfg', 'test_dataloader', 'test_evaluator'), ('test',), 'test needs .*: give it$'),
    ],
)
def test_parts_of_a_loop_that_are_missing_are_named(config, missing, wanted, words):
    cfg = Config.fromfile(config)
    for name in missing:
        cfg[name] = None
    with refused(words):
        require_loops(cfg, *wanted)


def test_a_bare_config_trains(call, config, tmp_path):
    """Without validation, hooks, or a GPU for its mixed precision."""
    bare = tmp_path / 'bare.py'
    bare.write_text(
        f"""
_base_ = '{config}'
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None
default_hooks = custom_hooks = None
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic')
"""
    )
    assert_done(call('train', bare, '--work-dir', tmp_path / 'work'))
    assert (tmp_path / 'work' / 'epoch_1.pth').is_file()
    done = call('test', bare, tmp_path / 'work' / 'epoch_1.pth', '--work-dir', tmp_path / 'work')
    assert_refused(done, 'test_dataloader', 'is missing')


LIST = """
val_evaluator = [
    dict(type='CocoMetric', metric='bbox', ann_file=data_root + 'annotations.json'),
    dict(type='CocoMetric', metric='proposal', ann_file=data_root + 'annotations.json'),
]
default_hooks = dict(checkpoint=None)
"""


def test_the_quickstart_takes_several_metrics(tmp_path):
    tool = load_tool('quickstart')
    data = write_coco(tmp_path / 'data')
    for name in ('train.json', 'val.json'):
        (data / name).write_bytes((data / 'annotations.json').read_bytes())
    config = write_config(tmp_path, data, LIST.replace('data_root', repr(f'{data}/')))
    given = ('--train-ann', 'train.json', '--val-ann', 'val.json', '--config', str(config))
    args = tool.parse_args(['--data', str(data), *given, '--work-dir', str(tmp_path / 'work')])
    cfg = read_config(args.config)
    tool.fit_config(cfg, args, tool.prepare_data(args))
    assert cfg.val_evaluator[0].outfile_prefix == str(tmp_path / 'work' / 'predictions')
    assert tool.predictions_of(cfg) == tmp_path / 'work' / 'predictions.bbox.json'
    assert cfg.default_hooks.checkpoint.interval == 1
    cfg.val_evaluator = [dict(type='VOCMetric')]
    with refused('no CocoMetric'):
        tool.coco_metric(cfg)
