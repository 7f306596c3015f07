"""Every shipped config builds, agrees with itself and takes one training step."""

from pathlib import Path

import pytest
import torch
import yaml
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmshuffle.detection.config_check import check_model
from tests.conftest import REPO

CONFIGS = REPO / 'configs'
DETECTORS = sorted(
    path for path in CONFIGS.glob('*/*.py') if path.parent.name in ('faster_rcnn', 'finetune')
)


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
    assert listed == {str(path.relative_to(REPO)) for path in DETECTORS}


@pytest.mark.parametrize('folder', ['faster_rcnn', 'finetune'])
def test_every_folder_explains_itself(folder):
    readme = (CONFIGS / folder / 'README.md').read_text()
    for path in (CONFIGS / folder).glob('*.py'):
        assert path.name in readme, f'{path.name} is not in the README.md of its folder'
