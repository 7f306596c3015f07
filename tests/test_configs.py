"""Every shipped config builds, agrees with itself and takes one training step."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from mmcv.transforms import Compose
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.structures import InstanceData

from mmshuffle.checks import check_classifier_model, check_model
from tests.conftest import REPO

CONFIGS = REPO / 'configs'
DETECTORS = sorted(
    path for path in CONFIGS.glob('*/*.py') if path.parent.name in ('faster_rcnn', 'finetune')
)

CLASSIFIERS = sorted(CONFIGS.glob('imagenet/*/*.py'))


def name(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def sample(height: int, width: int, classes: int) -> DetDataSample:
    truth = InstanceData(
        bboxes=torch.tensor([[8.0, 8.0, 60.0, 50.0], [30.0, 20.0, 90.0, 90.0]]),
        labels=torch.tensor([0, classes - 1]),
    )
    meta = dict(
        img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0), img_id=1
    )
    return DetDataSample(
        metainfo=meta,
        gt_instances=truth,
        ignored_instances=InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
        ),
    )


@pytest.mark.parametrize('path', DETECTORS, ids=name)
def test_config_is_sound_and_takes_a_step(path):
    assert len(path.read_text().splitlines()) <= 40
    cfg = Config.fromfile(path)
    assert [str(p) for p in check_model(cfg.model)] == []
    # Pretrained weights are another test's subject; without them statistics must be learned.
    cfg.model.backbone.init_cfg = None
    cfg.model.backbone.norm_eval = False
    shared = cfg.model.roi_head.get('shared_head')
    if shared:
        shared.init_cfg = None
    detector = MODELS.build(cfg.model)
    detector.init_weights()
    detector.train()
    classes = cfg.model.roi_head.bbox_head.num_classes
    data = detector.data_preprocessor(
        dict(
            inputs=[torch.randint(0, 255, (3, 96, 128), dtype=torch.uint8) for _ in range(2)],
            data_samples=[sample(96, 128, classes) for _ in range(2)],
        ),
        training=True,
    )
    optimizer = torch.optim.SGD((p for p in detector.parameters() if p.requires_grad), lr=1e-3)
    before = [p.detach().clone() for p in detector.parameters()]
    loss, _ = detector.parse_losses(detector(**data, mode='loss'))
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    # Stage 0 is frozen in the COCO configs.
    trained = [
        (name, parameter, old)
        for (name, parameter), old in zip(detector.named_parameters(), before, strict=True)
        if parameter.requires_grad
    ]
    assert [name for name, parameter, _ in trained if parameter.grad is None] == []
    # A head without a positive sample in the batch keeps a few parameters as they are.
    changed = sum(not torch.equal(parameter, old) for _, parameter, old in trained)
    assert changed > 0.8 * len(trained)


@pytest.mark.parametrize('path', CLASSIFIERS, ids=name)
def test_imagenet_config_is_sound_and_takes_a_step(path):
    assert len(path.read_text().splitlines()) <= 40
    cfg = Config.fromfile(path)
    assert [str(p) for p in check_classifier_model(cfg.model)] == []
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = [p.detach().clone() for p in model.parameters()]
    side = 64 if 'alexnet' not in path.name else 128
    batch = dict(
        inputs=torch.randint(0, 255, (2, 3, side, side), dtype=torch.uint8),
        data_samples=torch.tensor([0, cfg.model.head.num_classes - 1]),
    )
    losses = model.train_step(batch, optim_wrapper)
    assert torch.isfinite(losses['loss'])
    # A small gain of a BatchNorm may be rounded away from a weight of 1.
    changed = sum(not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert changed > 0.9 * len(before)


@pytest.mark.parametrize('path', CLASSIFIERS, ids=name)
def test_imagenet_pipelines_give_the_size_of_the_config(path, photograph):
    cfg = Config.fromfile(path)
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


def decay_of(cfg: Config) -> dict[str, float]:
    model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: group['weight_decay']
        for group in optimizer.param_groups
        for p in group['params']
    }


def test_weights_decay_and_norms_and_biases_do_not():
    folder = CONFIGS / 'imagenet'
    cfg = Config.fromfile(folder / 'shufflenet_v2/shufflenetv2-x0.5_8xb128-300k_imagenet.py')
    decay = decay_of(cfg)
    assert decay['head.fc.weight'] == decay['backbone.stages.1.branches.0.1.conv.weight'] == 4e-5
    assert {v for k, v in decay.items() if '.bn.' in k or k.endswith('bias')} == {0.0}
    cfg = Config.fromfile(folder / 'mobilenet_v1/mobilenetv1-x0.25_8xb128-300k_imagenet.py')
    decay = decay_of(cfg)
    assert {v for k, v in decay.items() if 'depthwise.conv' in k} == {0.0}
    assert decay['backbone.stages.1.0.pointwise.conv.weight'] == 4e-5


def test_the_schedule_is_that_of_the_papers():
    """300k steps of 1024 images; learning rate 0.5 falling linearly to 0."""
    path = CONFIGS / 'imagenet/shufflenet_v2/shufflenetv2-x1.0_8xb128-300k_imagenet.py'
    cfg = Config.fromfile(path)
    steps = -(-1281167 // cfg.auto_scale_lr.base_batch_size)
    assert steps * cfg.train_cfg.max_epochs == pytest.approx(300_000, rel=2e-3)
    (schedule,) = cfg.param_scheduler
    optimizer = torch.optim.SGD(
        [torch.zeros(1, requires_grad=True)], lr=cfg.optim_wrapper.optimizer.lr
    )
    kind = PARAM_SCHEDULERS.get(schedule.pop('type'))
    schedule.pop('convert_to_iter_based')
    scheduler = kind.build_iter_from_epoch(optimizer, **schedule, epoch_length=10)
    rates = []
    for _ in range(10 * cfg.train_cfg.max_epochs):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    assert rates[0] == 0.5 and rates[len(rates) // 2] == pytest.approx(0.25, abs=1e-3)
    assert optimizer.param_groups[0]['lr'] == pytest.approx(0, abs=1e-6)


def test_the_config_of_the_readme_is_sound(tmp_path):
    code = (REPO / 'README.md').read_text().split('```python\n')[1].split('```')[0]
    path = tmp_path / 'my_config.py'
    path.write_text(code)
    cfg = Config.fromfile(path)
    assert [str(problem) for problem in check_model(cfg.model)] == []
    assert MODELS.build({**cfg.model.backbone, 'init_cfg': None}).out_channels[-1] == 464


def test_every_config_is_in_a_metafile():
    index = yaml.safe_load((REPO / 'model-index.yml').read_text())
    listed = set()
    for entry in index['Import']:
        content = yaml.safe_load((REPO / entry).read_text())
        assert content['Collections']
        names = {c['Name'] for c in content['Collections']}
        for model in content['Models']:
            assert model['In Collection'] in names
            assert model['Name'] == Path(model['Config']).stem
            listed.add(model['Config'])
    assert listed == {str(path.relative_to(REPO)) for path in (*DETECTORS, *CLASSIFIERS)}


@pytest.mark.parametrize(
    'folder', sorted({path.parent for path in (*DETECTORS, *CLASSIFIERS)}), ids=name
)
def test_every_folder_explains_itself(folder):
    readme = (folder / 'README.md').read_text()
    for path in folder.glob('*.py'):
        assert path.name in readme, f'{path.name} is not in the README.md of its folder'
