"""The command lines with a classifier, from end to end."""

import json
from pathlib import Path

import pytest

from mmshuffle.weights import read_checkpoint
from tests.conftest import facts
from tests.test_tools.conftest import assert_done, assert_refused, assert_user_error, run
from tests.test_tools.test_train_and_test import torchrun
from tests.tiny import COLOURS, write_classifier, write_folders


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('classifier')
    config = write_classifier(folder, write_folders(folder / 'data'))
    assert_done(run('tools/train.py', config, '--work-dir', folder / 'work'))
    return folder


def history(work: Path) -> list[dict]:
    return json.loads((work / 'history.json').read_text())


def test_training_learns_the_colours(trained):
    records = history(trained / 'work')
    assert [record['epoch'] for record in records] == [1, 2]
    assert records[1]['loss'] < records[0]['loss']
    assert records[1]['metrics']['accuracy/top1'] > 60
    assert records[1]['lr'] < 0.01 < records[0]['lr']
    # Estimated anew over the three batches of an epoch.
    state = read_checkpoint(trained / 'work' / 'epoch_2.pth')['state_dict']
    assert state['backbone.stages.0.0.bn.num_batches_tracked'] == 3


def test_test_py_gives_the_accuracy_of_the_training(trained, tmp_path):
    arguments = (trained / 'tiny.py', trained / 'work' / 'epoch_2.pth', '--work-dir', tmp_path)
    assert_done(run('tools/test.py', *arguments, '--out', tmp_path / 'scores.pkl'))
    metrics = json.loads((tmp_path / 'metrics.json').read_text())['metrics']
    assert metrics == history(trained / 'work')[-1]['metrics']
    assert (tmp_path / 'scores.pkl').stat().st_size > 0
    assert_user_error(run('tools/test.py', *arguments, '--show-dir', 'x'), 'draw boxes')
    # At width 0.5 names and shapes are those of the other layout.
    other = ('--cfg-options', 'model.backbone.layout=torchvision')
    assert_user_error(run('tools/test.py', *arguments, *other), "layout='megvii'")


ITERATIONS = """
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=4, val_interval=2)
param_scheduler = [dict(type='PolyLR', by_epoch=False, end=4)]
train_dataloader = dict(
    sampler=dict(type='InfiniteSampler', shuffle=True), num_workers=1, persistent_workers=True
)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='ProgressHook', metrics={'top-1': 'accuracy/top1'}, scale=1),
]
"""


def test_a_run_that_counts_iterations_estimates_the_statistics_too(tmp_path):
    """Its workers persist, and the sampler has no end."""
    config = write_classifier(tmp_path, write_folders(tmp_path / 'data'), ITERATIONS)
    _, err = assert_done(run('tools/train.py', config, '--work-dir', tmp_path / 'work'))
    state = read_checkpoint(tmp_path / 'work' / 'iter_4.pth')['state_dict']
    norms = {key.removesuffix('.num_batches_tracked') for key in state if key.endswith('tracked')}
    assert norms and all(state[f'{norm}.num_batches_tracked'] == 3 for norm in norms)
    assert all(state[f'{norm}.running_mean'].abs().sum() > 0 for norm in norms)
    assert 'iteration 4/4: loss' in err and '16/16 images' in err
    before = history(tmp_path / 'work')
    assert [(record['iter'], record['images']) for record in before] == [(2, 8), (4, 8)]
    assert all('accuracy/top1' in record['metrics'] for record in before)
    # Nothing is left to do, and that is no error.
    assert_done(run('tools/train.py', config, '--work-dir', tmp_path / 'work', '--resume'))
    assert before and history(tmp_path / 'work') == before


# BatchNorm's statistics depend on how a batch is divided; nothing else does.
EVEN = """
model = dict(backbone=dict(norm_cfg=dict(type='GN', num_groups=1)))
optim_wrapper = dict(optimizer=dict(lr=0.003))
param_scheduler = []  # it would count part batches
train_dataloader = dict(batch_size=4)
custom_hooks = [dict(type='HistoryHook')]
auto_scale_lr = dict(base_batch_size=4)
"""


def assert_same_training(one: Path, other: Path) -> None:
    for a, b in zip(history(one), history(other), strict=True):
        assert a['loss'] == pytest.approx(b['loss'], rel=1e-4)
    a, b = (read_checkpoint(work / 'epoch_2.pth')['state_dict'] for work in (one, other))
    assert max((a[k].float() - b[k].float()).abs().max().item() for k in a) < 1e-4


def test_two_processes_and_two_part_batches_train_as_one(tmp_path):
    config = write_classifier(tmp_path, write_folders(tmp_path / 'data'), EVEN)
    half = ('--cfg-options', 'train_dataloader.batch_size=2')
    assert_done(run('tools/train.py', config, '--work-dir', tmp_path / 'one'))
    first, last = history(tmp_path / 'one')
    assert last['loss'] < 0.996 * first['loss']
    assert_done(torchrun(2, 'tools/train.py', config, '--work-dir', tmp_path / 'two', *half))
    assert_same_training(tmp_path / 'one', tmp_path / 'two')
    assert len(read_checkpoint(tmp_path / 'two' / 'epoch_2.pth')['rng_states']) == 2
    arguments = (config, '--accumulate', 'auto', '--work-dir', tmp_path / 'parts', *half)
    assert_done(run('tools/train.py', *arguments))
    assert_same_training(tmp_path / 'one', tmp_path / 'parts')


@pytest.mark.parametrize(
    ('options', 'parts'),
    [
        ('model.head.num_classes=4', ('num_classes: 4', '3 classes')),
        ('model.head.in_channels=97', ('model.head.in_channels: 97', 'has 96')),
        ('{val}data_prefix=train/red', ('val_dataloader.dataset', 'no class folders')),
        ('model.backbone.widen_factor=3.0', ('widen_factor=3.0',)),
        ('load_from=absent.pth', ('load_from', 'absent.pth does not exist')),
        ('model.head=None', ('model: ', 'needs head')),
        ('{val}data_prefx=x', ('val_dataloader.dataset: ', 'data_prefx')),
        ('{val}classes=absent.txt', ('val_dataloader.dataset: ', 'absent.txt cannot be read')),
        ('{val}data_prefix=val {val}ann_file=from_1.txt', ('are from 1 to 3: count them from 0',)),
        ('a=1 --accumulate some', ("give a number of batches, or 'auto'",)),
        ('a=1 --accumulate 2²', ("give a number of batches, or 'auto'",)),
        (f'a=1 --work-dir {__file__}', ('is a file; give a folder',)),
        ('a=1 --accumulate auto --auto-scale-lr', ('give one',)),
        ('train_dataloader.batch_size=3 --accumulate auto', ('do not divide the total of 1024',)),
    ],
)
def test_mistakes_end_in_one_line(call, trained, tmp_path, options, parts):
    lines = [f'{name}/0.jpg {label}' for label, name in enumerate(COLOURS, 1)]
    (trained / 'data' / 'from_1.txt').write_text('\n'.join(lines))
    given = ('--cfg-options', *options.format(val='val_dataloader.dataset.').split())
    done = call('train', trained / 'tiny.py', '--work-dir', tmp_path / 'work', *given)
    assert_refused(done, *parts)
    assert not (tmp_path / 'work').exists()


RETINAFACE = ('mobilenet_v1/mobilenetv1-x0.25-retinaface', 'mobilenetV1X0.25_pretrain.tar')
SLIM = ('mobilenet_v1/mobilenetv1-x1.0-tf-slim', 'mobilenet_v1_1.0_224_tf-slim.npz')
SQUEEZE = ('squeezenet/squeezenet1.1-caffe', 'squeezenet_1.1_torchvision-layout.pth')


@pytest.mark.parametrize(
    ('config', 'weights', 'padding', 'top1', 'top5'),
    [
        (*SLIM, 'symmetric', 66.2, 88.4),
        (*SLIM, 'same', 65.8, 89.4),
        (*SQUEEZE, 'published', 58.0, 81.6),
        (*RETINAFACE, 'symmetric', 45.0, 75.8),
    ],
)
@pytest.mark.slow
def test_published_weights_have_their_accuracy(config, weights, padding, top1, top5, tmp_path):
    config = f'configs/imagenet/{config}_test_imagenet10.py'
    data = f'test_dataloader.dataset.data_root={facts("data/imagenet_10")}'
    options = ('--cfg-options', f'model.backbone.padding={padding}', data)
    arguments = (facts(f'weights/{weights}'), '--work-dir', tmp_path, *options)
    assert_done(run('tools/test.py', config, *arguments))
    metrics = json.loads((tmp_path / 'metrics.json').read_text())['metrics']
    assert metrics['accuracy/top1'] == pytest.approx(top1, abs=0.6)
    assert metrics['accuracy/top5'] == pytest.approx(top5, abs=0.6)
