"""Which checkpoint is resumed, and with which schedule."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from mmshuffle.engine.options import apply_training_options, load_config
from mmshuffle.engine.resume import find_resumable, resume_from
from tests.conftest import REPO, load_file, refused
from tests.tiny import make_runner

HUB = dict(log_scalars={}, runtime_info={}, resumed_keys={})
WHOLE = dict(state_dict={}, message_hub=HUB, optimizer={})


def save(path: Path, epoch: int, iteration: int = 0, age: int = 0, **content: object) -> None:
    """Write a checkpoint; parts that are None are left out."""
    meta = dict(epoch=epoch, iter=iteration, seed=epoch)
    parts = {k: v for k, v in {'meta': meta, **WHOLE, **content}.items() if v is not None}
    path.parent.mkdir(exist_ok=True)
    torch.save(parts, path)
    os.utime(path, (1e9 - age, 1e9 - age))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def mixture(work: Path) -> None:
    save(work / 'epoch_9.pth', 9, 90)
    save(work / 'epoch_10.pth', 10, 100, age=50)  # older by its time than what came before it
    save(work / 'iter_95.pth', 9, 95)
    save(work / 'best_coco_bbox_mAP_epoch_11.pth', 11, 110, optimizer=None)
    save(work / 'epoch_11.pth', 11, 110)
    cut(work / 'epoch_11.pth')
    torch.save({'layer.weight': torch.ones(1)}, work / 'pretrained.pth')
    (work / 'last_checkpoint').write_text(str(work / 'epoch_12.pth'))


def within_an_epoch(work: Path) -> None:
    for iteration in (900, 1000, 200):
        save(work / f'iter_{iteration}.pth', 10, iteration, age=iteration)


def renamed(work: Path) -> None:
    save(work / 'epoch_3.pth', 8, 80)
    save(work / 'epoch_7.pth', 7, 70)


def elsewhere(work: Path) -> None:
    """Where the config chose another folder and name, only the pointer tells."""
    save(work / 'epoch_5.pth', 5, 50)
    save(work.parent / 'out' / 'step6.pth', 6, 60)
    save(work.parent / 'out' / 'step7.pth', 7, 70)
    cut(work.parent / 'out' / 'step7.pth')
    (work / 'last_checkpoint').write_text(str(work.parent / 'out' / 'step7.pth'))


def copied(work: Path) -> None:
    """A copy of a work dir that has gone on since: the pointer names the other."""
    other = work.parent / 'other'
    save(other / 'epoch_2.pth', 2, 20)
    (other / 'last_checkpoint').write_text(str(other / 'epoch_2.pth'))
    shutil.copytree(other, work, dirs_exist_ok=True)
    save(other / 'epoch_3.pth', 3, 30)


@pytest.mark.parametrize('content', [b'', b'\0' * 60, b'\xff\xfe', b'here', b'x' * 9999])
def test_a_pointer_that_was_not_written_whole_is_passed_over(tmp_path, monkeypatch, content):
    save(tmp_path / 'here' / 'stray.pth', 9)
    monkeypatch.chdir(tmp_path / 'here')
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'last_checkpoint').write_bytes(content)
    assert find_resumable(tmp_path / 'work') is None


@pytest.mark.parametrize(
    ('fill', 'expected'),
    [
        (lambda work: None, None),
        (mixture, 'work/epoch_10.pth'),
        (within_an_epoch, 'work/iter_1000.pth'),
        (renamed, 'work/epoch_3.pth'),
        (elsewhere, 'out/step6.pth'),
        (copied, 'work/epoch_2.pth'),
    ],
)
def test_the_checkpoint_furthest_in_the_training_is_found(tmp_path, capsys, fill, expected):
    work = tmp_path / 'work'
    work.mkdir()
    fill(work)
    found = find_resumable(work)
    assert found == (expected and tmp_path / expected)
    damaged = fill in (mixture, elsewhere)
    assert ('passed over: ' in capsys.readouterr().err) == damaged


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'epoch_1.pth is damaged'),
        (dict(optimizer=None), 'epoch_1.pth holds no optimizer'),
        (dict(optimizer=None, message_hub=None), 'holds no message_hub and no optimizer'),
        (dict(meta={}), 'holds no epoch'),
        (dict(meta=3), 'holds no meta'),
        (dict(optimizer=[1]), 'holds no optimizer'),
        (dict(message_hub=dict(log_scalars={}, runtime_info=[])), 'no runtime_info and no resumed'),
        (dict(state_dict=None), 'is no training checkpoint'),
    ],
)
def test_what_cannot_be_resumed_is_an_error_and_no_fresh_start(tmp_path, content, words):
    path = tmp_path / 'epoch_1.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save(path, 1, **content)
    for resume in (lambda: find_resumable(tmp_path), lambda: resume_from(Config(), path)):
        with refused(words):
            resume()


@pytest.mark.parametrize(
    ('config', 'options', 'expected'),
    [
        ({}, (), None),
        ({}, ('--resume',), 'work/epoch_2.pth'),
        ({}, ('--resume', 'work/epoch_1.pth'), 'work/epoch_1.pth'),
        (dict(resume=True), (), 'work/epoch_2.pth'),
        (dict(resume=True, load_from='work/epoch_1.pth'), (), 'work/epoch_1.pth'),
        (dict(load_from='other.pth'), ('--resume',), 'work/epoch_2.pth'),
        (dict(load_from='other.pth'), (), 'other.pth'),
        (dict(resume=True), ('--work-dir', 'empty'), None),
    ],
)
def test_the_command_line_and_the_config_ask_for_it(
    tmp_path, monkeypatch, config, options, expected
):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / 'work' / 'epoch_1.pth', 1)
    save(tmp_path / 'work' / 'epoch_2.pth', 2)
    loop = dict(train_dataloader={}, train_cfg={}, optim_wrapper={})
    Config(dict(work_dir='work', **loop, **config)).dump('config.py')
    args = load_file(REPO / 'tools' / 'train.py').parse_args(['config.py', *options])
    cfg = load_config(args)
    apply_training_options(cfg, args)
    assert cfg.get('load_from') == expected
    assert bool(cfg.get('resume')) == (expected not in (None, 'other.pth'))


def test_looking_for_a_checkpoint_reads_no_tensors(tmp_path):
    """Of a file whose tensors take 40 MB, less than 1 MB becomes resident, also for the seed."""
    path = tmp_path / 'epoch_4.pth'
    save(path, 4, state_dict={'weight': torch.zeros(10_000_000)})
    seen = []
    read = torch.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, 'load', lambda *a, **k: seen.append(k) or read(*a, **k))
        cfg = Config()
        resume_from(cfg, find_resumable(tmp_path))
    assert len(seen) == 2 and all(k['mmap'] and k['weights_only'] for k in seen)
    assert cfg.load_from == str(path) and cfg.randomness.seed == 4


BASE = dict(
    schedule=[dict(type='MultiStepLR', milestones=[3], gamma=0.1)],
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
    batch=2,
    loop=dict(by_epoch=True, max_epochs=4),
    wrapper={},
)
COSINE = dict(schedule=[dict(type='CosineAnnealingLR', T_max=4, end=4)])
STEPS = dict(schedule=[dict(COSINE['schedule'][0], convert_to_iter_based=True)])
FEWER_STEPS = dict(schedule=[dict(STEPS['schedule'][0], T_max=5, end=5)])
CYCLE = dict(schedule=[dict(type='OneCycleLR', eta_max=0.5, total_steps=16, by_epoch=False)])
LONGER_CYCLE = dict(schedule=[dict(CYCLE['schedule'][0], total_steps=32)])
WARMUP = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=16)]
ITERATIONS = dict(loop=dict(by_epoch=False, max_iters=16), schedule=WARMUP)


def build(work: Path, resumed: Path | None = None, allow: bool = False, **settings) -> Runner:
    given = {**BASE, **settings}
    epochs = given['loop']['by_epoch']
    return make_runner(
        work,
        nn.Linear(2, 1),
        [dict(inputs=torch.ones(2))] * 8,
        given['loop'],
        [dict(type='PlainCheckpointHook')],
        dict(batch_size=given['batch']),
        interval=2 if epochs else 8,
        resumed=resumed,
        optim_wrapper=dict(optimizer=dict(given['optimizer']), **given['wrapper']),
        param_scheduler=[dict(s) for s in given['schedule']],
        cfg=Config(dict(allow_changed_schedule=allow)),
    )


MORE_STEPS = [dict(type='MultiStepLR', milestones=[2, 3], gamma=0.1)]
LONGER = dict(loop=dict(by_epoch=True, max_epochs=6))
LONGER_THAN_THE_SCHEDULE = 'max_epochs was 4, now 6, and the schedule ends with the former'


def halfway(work: Path, **settings) -> Path:
    runner = build(work, **settings)
    runner.train()
    return work / ('epoch_2.pth' if runner.train_loop.max_epochs > 1 else 'iter_8.pth')


def log_of(runner: Runner) -> str:
    runner.train()
    return Path(runner._log_dir, f'{runner.timestamp}.log').read_text()


@pytest.mark.parametrize(
    ('first', 'then', 'warning'),
    [
        ({}, {}, None),
        (CYCLE, {}, None),
        (STEPS, {}, None),
        (dict(schedule=[dict(BASE['schedule'][0], end=3)]), LONGER, 'max_epochs was 4, now 6'),
        ({}, dict(batch=4), 'an epoch had 4 iterations, now 2'),
    ],
)
def test_what_leaves_the_schedule_as_it_was_goes_on(tmp_path, first, then, warning):
    checkpoint = halfway(tmp_path / 'first', **first)
    log = log_of(build(tmp_path / 'then', checkpoint, **{**first, **then}))
    assert warning in log if warning else ', now ' not in log


def optimizer(**settings) -> dict:
    return dict(optimizer={**BASE['optimizer'], **settings})


# What a training was started with, and resumed with, and what is said of it.
REFUSED = [
    ({}, dict(schedule=MORE_STEPS), '(MultiStepLR) milestones was [3], now [2, 3]'),
    ({}, LONGER, 'max_epochs was 4, now 6; param_scheduler[0] (MultiStepLR) end was 4, now 6'),
    (COSINE, LONGER, LONGER_THAN_THE_SCHEDULE),
    (STEPS, LONGER, LONGER_THAN_THE_SCHEDULE),
    (STEPS, FEWER_STEPS, '(CosineAnnealingLR) T_max was 16, now 20'),
    (STEPS, dict(batch=4), 'an epoch had 4 iterations, now 2'),
    (CYCLE, LONGER_CYCLE, '(OneCycleLR) total_steps was 16, now 32'),
    (ITERATIONS, dict(loop=dict(by_epoch=False, max_iters=32)), 'was 16, now 32, and the schedule'),
    ({}, COSINE, 'param_scheduler[0] was another one than Cosine'),
    ({}, dict(schedule=[]), 'param_scheduler had 1 entries, now 0'),
    ({}, optimizer(lr=0.2, weight_decay=1e-4), 'lr was 0.1, now 0.2; optimizer weight_decay was 0'),
    (dict(schedule=[]), optimizer(lr=0.2), 'optimizer lr was 0.1, now 0.2'),
    ({}, dict(optimizer=dict(type='AdamW', lr=0.1)), 'was another one than AdamW'),
    ({}, dict(wrapper=dict(paramwise_cfg=dict(bias_lr_mult=2.0))), 'in 1 groups, now 2 in 2'),
]


@pytest.mark.parametrize(('first', 'then', 'refusal'), REFUSED)
def test_a_changed_schedule_is_refused_unless_it_is_meant(tmp_path, first, then, refusal):
    checkpoint = halfway(tmp_path / 'first', **first)
    with refused() as caught:
        build(tmp_path / 'then', checkpoint, **{**first, **then}).train()
    message = str(caught.value)
    assert refusal in message and str(checkpoint) in message and '\n' not in message
    impossible = 'groups' in refusal or 'AdamW' in refusal
    assert 'load_from=' in message and ('allow_changed_schedule=True' in message) != impossible
    if not impossible:
        allowed = build(tmp_path / 'allowed', checkpoint, allow=True, **{**first, **then})
        assert refusal in log_of(allowed)
