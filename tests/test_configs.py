"""Every shipped config builds, is what its name says, takes a training step and predicts."""

import functools
import json
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.models.backbones import MobileNetV2
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config, ConfigDict
from mmengine.config import utils as config_utils
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from mmshuffle.analysis.tables import load_tables
from mmshuffle.checks import check_classifier_model, check_model
from mmshuffle.checks.weights import check_checkpoints
from mmshuffle.engine import shipped
from mmshuffle.engine.config import read_config
from mmshuffle.reproduce.plan import DEFAULT_FOLDER, last_checkpoint
from mmshuffle.weights.zoo import find_entry
from tests.conftest import REPO, load_file, refused
from tests.tiny import draw_samples

CONFIGS = REPO / 'configs'
DETECTORS = sorted(CONFIGS.glob('[!_]*/*.py'))
CLASSIFIERS = sorted(CONFIGS.glob('imagenet/*/*.py'))
IMAGENET_IMAGES = 1281167


def name(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def read(path: Path) -> Config:
    return read_config(str(path))


@functools.cache
def take_step(model: str, optimizer: str) -> tuple[float, list[str], float, int]:
    """Loss, tensors without a gradient and share of changed tensors of a training step.

    Before it, of a detector, the least number of detections of an image. Model and optimizer are
    given as JSON; configs that differ in data share theirs.
    """
    detector = MODELS.build(ConfigDict(json.loads(model)))
    detector.init_weights()
    detector.train()
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # what is predicted is with the statistics of the step
    wrapper = build_optim_wrapper(detector, ConfigDict(json.loads(optimizer)))
    before = [p.detach().clone() for p in detector.parameters()]
    if isinstance(detector, BaseDetector):
        classes = getattr(detector, 'roi_head', detector).bbox_head.num_classes
        images = [torch.randint(0, 255, (3, 96, 128), dtype=torch.uint8) for _ in range(2)]
        masks = getattr(detector, 'with_mask', False)
        data = dict(inputs=images, data_samples=draw_samples((96, 128), classes - 1, masks))
    else:
        side = 128 if type(detector.backbone).__name__ == 'AlexNet' else 64
        data = dict(
            inputs=torch.randint(0, 255, (2, 3, side, side), dtype=torch.uint8),
            data_samples=torch.tensor([0, detector.head.num_classes - 1]),
        )
    batch = detector.data_preprocessor(data, training=True)
    loss, _ = detector.parse_losses(detector(**batch, mode='loss'))
    wrapper.backward(loss)
    named = list(detector.named_parameters())
    # Stage 0 is frozen in the COCO configs.
    trained = [
        (name, p, old) for (name, p), old in zip(named, before, strict=True) if p.requires_grad
    ]
    idle = [name for name, p, _ in trained if p.grad is None]
    if type(detector.backbone) is MobileNetV2:  # MMDetection's has a last layer that none uses
        idle = [name for name in idle if not name.startswith('backbone.conv2.')]
    # Before the step, after which a detector of random weights may find nothing at all.
    found = predict(detector, data) if isinstance(detector, BaseDetector) else 0
    wrapper.step()
    changed = sum(not torch.equal(p, old) for _, p, old in trained)
    return loss.item(), idle, changed / len(trained), found


def predict(detector: BaseDetector, data: dict) -> int:
    detector.eval()
    with torch.no_grad():
        results = detector(**detector.data_preprocessor(data), mode='predict')
    found = [result.pred_instances for result in results]
    for instances in filter(len, found):
        assert instances.bboxes.isfinite().all() and instances.scores.isfinite().all()
        low, high = instances.bboxes.min(0).values, instances.bboxes.max(0).values
        assert (low >= 0).all() and (high <= torch.tensor([128, 96, 128, 96])).all()
    return min(map(len, found))


@pytest.mark.usefixtures('observed_once')
@pytest.mark.parametrize('path', (*DETECTORS, *CLASSIFIERS), ids=name)
def test_config_is_sound_takes_a_step_and_predicts(path):
    cfg = read(path)
    classifier = path in CLASSIFIERS
    check = check_classifier_model if classifier else check_model
    assert [str(problem) for problem in check(cfg.model)] == []
    # Pretrained weights are another test's subject; without them statistics must be learned.
    cfg.model.backbone.init_cfg = None
    if not classifier:
        cfg.model.backbone.norm_eval = False
        if 'rcnn' in cfg.model.train_cfg:  # few RoIs and narrow layers, for speed
            cfg.model.train_cfg.rcnn.sampler.num = 16
            cfg.model.train_cfg.rpn_proposal.max_per_img = 32
            cfg.model.test_cfg.rpn.max_per_img = 32
            cfg.model.test_cfg.rcnn.max_per_img = 16
            if 'fc_out_channels' in cfg.model.roi_head.bbox_head:
                cfg.model.roi_head.bbox_head.fc_out_channels = 64
        cfg.model.test_cfg.get('rcnn', cfg.model.test_cfg).score_thr = 0
        if shared := cfg.model.get('roi_head', {}).get('shared_head'):
            shared.init_cfg = None
    parts = (json.dumps(part.to_dict()) for part in (cfg.model, cfg.optim_wrapper))
    loss, idle, changed, found = take_step(*parts)
    assert math.isfinite(loss) and idle == []
    # A head without a positive sample in the batch keeps a few parameters as they are, and a small
    # gain of a BatchNorm may be rounded away from a weight of 1.
    assert changed > (0.9 if classifier else 0.8)
    assert classifier or found > 10


@pytest.mark.parametrize('path', CLASSIFIERS, ids=name)
def test_imagenet_pipelines_give_the_size_of_the_config(path, photograph):
    cfg = read(path)
    sizes = set()
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        pipeline = Compose([TRANSFORMS.build(step) for step in loader.dataset.pipeline])
        packed = pipeline(dict(img_path=photograph, gt_label=7))
        assert packed['inputs'].dtype == torch.uint8 and int(packed['data_samples']) == 7
        sizes.add(tuple(packed['inputs'].shape[1:]))
    if 'imagenet10' not in path.name:  # its test images come in their size
        assert len(sizes) == 1
        (side, width) = sizes.pop()
        pixels = re.search(r'-(\d+)px', path.name)
        assert side == width and (pixels is None or side == int(pixels[1]))


@pytest.fixture(scope='module')
def photograph(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp('images') / 'noise.jpg'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (333, 500, 3), dtype=np.uint8))
    return str(path)


@pytest.mark.parametrize(
    ('network', 'spared'),
    [
        ('shufflenet_v2/shufflenetv2-x0.5', r'\.bn\.|bias$'),
        ('mobilenet_v1/mobilenetv1-x0.25', r'\.bn\.|bias$|depthwise\.conv'),
    ],
)
def test_weights_decay_and_norms_and_biases_do_not(network, spared):
    cfg = read(CONFIGS / f'imagenet/{network}_8xb128-300k_imagenet.py')
    model = MODELS.build(cfg.model)
    names = {id(p): name for name, p in model.named_parameters()}
    for group in build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups:
        for name in (names[id(p)] for p in group['params']):
            assert group['weight_decay'] == (0 if re.search(spared, name) else 4e-5), name


def test_the_schedule_is_that_of_the_papers():
    """Learning rate 0.5 falling linearly to 0."""
    path = CONFIGS / 'imagenet/shufflenet_v2/shufflenetv2-x1.0_8xb128-300k_imagenet.py'
    cfg = read(path)
    (schedule,) = cfg.param_scheduler
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=cfg.optim_wrapper.optimizer.lr)
    kind = PARAM_SCHEDULERS.get(schedule.pop('type'))
    schedule.pop('convert_to_iter_based')
    scheduler = kind.build_iter_from_epoch(optimizer, **schedule, epoch_length=10)
    rates = []
    for _ in range(10 * cfg.train_cfg.max_epochs + 1):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    found = rates[0], rates[len(rates) // 2], rates[-1]
    assert found == pytest.approx((0.5, 0.25, 0), abs=1e-3)


def test_the_config_of_the_readme_is_sound(tmp_path):
    code = (REPO / 'README.md').read_text().split('```python\n')[1].split('```')[0]
    path = tmp_path / 'my_config.py'
    path.write_text(code)
    cfg = Config.fromfile(path)
    assert [str(problem) for problem in check_model(cfg.model)] == []
    assert MODELS.build({**cfg.model.backbone, 'init_cfg': None}).out_channels[-1] == 464


@pytest.mark.parametrize('path', sorted(CONFIGS.rglob('*.py')), ids=name)
def test_a_config_says_only_what_differs(path):
    text = path.read_text()
    base = name(path).startswith('_base_/')
    assert len(text.splitlines()) <= (65 if base else 40)
    assert base or '_base_ = ' in text
    # A pipeline that is edited by index is wrong as soon as its base gets another transform.
    assert re.search(r'\w\[-?\d+\]', text) is None


@pytest.mark.parametrize('path', (*DETECTORS, *CLASSIFIERS), ids=name)
def test_the_name_is_the_recipe(path):
    """Cards, images a card, and steps in thousands or epochs, as in OpenMMLab; 1x is 12 epochs."""
    if path.read_text().startswith('# The former name'):
        return  # its base is among the others
    cfg = read(path)
    found = re.search(r'[_-](\d+)xb(\d+)-(\d+)([ke])_', path.name)
    if found is None:
        assert '_1x_' in path.name or '_test_' in path.name
        assert '_test_' in path.name or cfg.train_cfg.max_epochs == 12
        return
    cards, batch, length = map(int, found.groups()[:3])
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr.base_batch_size == cards * batch
    epochs = cfg.train_cfg.max_epochs
    if found[4] == 'e':
        assert epochs == length
    else:
        steps = epochs * IMAGENET_IMAGES / (cards * batch)
        assert steps == pytest.approx(1000 * length, rel=3e-3)


SHORT = sorted(CONFIGS.glob('imagenet/*/*-75k_imagenet.py'))


@pytest.mark.parametrize('path', SHORT, ids=name)
def test_a_short_training_differs_in_its_length_only(path):
    short, full = read(path), read(path.with_name(path.name.replace('-75k_', '-300k_')))
    for cfg in (short, full):
        for key in ('epochs', 'train_cfg', 'param_scheduler'):
            cfg.pop(key)
    assert short.to_dict() == full.to_dict()


def test_dropout_is_where_the_readme_says():
    """At width 2 of ShuffleNet V2 and in v2-164, as in the authors' release."""
    paths = CONFIGS.glob('imagenet/shufflenet_v?/*_imagenet.py')
    dropout = {path.name: read(path).model.head.get('dropout', 0) for path in paths}
    expected = {name: 0.2 if re.match('shufflenetv2-(x2|164)', name) else 0 for name in dropout}
    assert dropout == expected and sum(map(bool, dropout.values())) == 4


@pytest.mark.parametrize('path', DETECTORS, ids=name)
def test_a_detector_starts_from_weights_that_can_be_had(path, tmp_path, monkeypatch):
    """From the zoo, from what its ImageNet config writes, or from a file that is described."""
    monkeypatch.chdir(tmp_path)
    cfg = read(path)
    backbone = cfg.model.backbone
    if backbone.init_cfg is None:
        assert 'quickstart' in path.name
        return
    checkpoint = backbone.init_cfg.checkpoint
    if checkpoint.startswith('checkpoints/'):
        assert f'`{Path(checkpoint).name}`' in (path.parent / 'README.md').read_text()
        return
    entry = find_entry(checkpoint)
    if entry is not None:
        assert checkpoint.startswith('mmshuffle://')
        network = entry.network
    else:
        folder = Path(checkpoint).parent.name
        command = f'or train it: python tools/train.py {folder}'
        assert {p.message.endswith(command) for p in check_checkpoints(cfg, training=True)} == {
            True
        }
        with refused(command):
            MODELS.build(backbone).init_weights()
        source = shipped.find(folder)
        trained = read(source)
        assert checkpoint == f'{DEFAULT_FOLDER}/{folder}/{last_checkpoint(trained)}'
        network = {k: v for k, v in trained.model.backbone.items() if k != 'out_indices'}
    built = dict(backbone, type=backbone.type.removeprefix('Dilated'))
    assert {key: built.get(key) for key in network} == network
    shared = cfg.model.get('roi_head', {}).get('shared_head')
    assert shared is None or shared.init_cfg.checkpoint == checkpoint


def test_the_tables_pretrain_what_the_detectors_start_from():
    rows = [row for table in load_tables().values() for row in table.rows if row.pretrained]
    assert len(rows) > 5
    for row in rows:
        model, trained = read(REPO / row.config).model, read(REPO / row.pretrained)
        folder = f'{DEFAULT_FOLDER}/{Path(row.pretrained).stem}'
        expected = f'{folder}/{last_checkpoint(trained)}'
        assert model.backbone.init_cfg.checkpoint == expected, row.config
        mine, its = model.data_preprocessor, trained.model.data_preprocessor
        assert all(mine.get(k) == its.get(k) for k in ('mean', 'std', 'bgr_to_rgb')), row.config


def test_the_metafiles_and_tables_are_those_of_the_configs():
    load_file(REPO / 'tools/write_metafiles.py').main(['--check'])


def test_mmengine_finds_every_config_by_its_path_in_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(config_utils, 'load', functools.cache(config_utils.load))
    (tmp_path / '.mim').symlink_to(REPO)
    for path in (*DETECTORS, *CLASSIFIERS):
        entry = config_utils._get_cfg_metainfo(str(tmp_path), name(path))
        assert entry['Name'] == path.stem and REPO / entry['Config'] == path


@pytest.mark.parametrize(
    'folder', sorted({path.parent for path in (*DETECTORS, *CLASSIFIERS)}), ids=name
)
def test_every_folder_explains_itself(folder):
    readme = (folder / 'README.md').read_text()
    for path in folder.glob('*.py'):
        assert path.name in readme, f'{path.name} is not in the README.md of its folder'
