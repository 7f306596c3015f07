"""MMDetection's own tools and inferencers with the project's configs and checkpoints."""

import copy
import json
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config

from mmshuffle.engine import shipped
from tests.conftest import REPO, load_file
from tests.tiny import write_classifier, write_coco, write_config, write_folders, write_over

TOOLS = Path(mmdet.__file__).parent / '.mim' / 'tools'
DETECTORS = sorted(
    {path for path in shipped.names().values() if 'imagenet' not in path.parts},
    key=lambda path: path.name,
)


def drive(tool: str, *args: object) -> None:
    """Run ``mmdet/test`` or ``mmshuffle/train``, the tool of one or the other, in this process."""
    project, name = tool.split('/')
    folder = TOOLS if project == 'mmdet' else REPO / 'tools'
    module = load_file(folder / f'{name}.py')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('sys.argv', [name, *map(str, args)])
        module.main()


def metrics(work: Path) -> dict[str, float]:
    content = json.loads(next(work.glob('*/*.json')).read_text())
    return {k: v for k, v in content.items() if k not in ('data_time', 'time')}


@pytest.mark.parametrize('kind', ['detector', 'classifier'])
def test_its_tools_and_the_projects_take_each_others_checkpoints(tmp_path, kind):
    if kind == 'detector':
        config = write_config(tmp_path, write_coco(tmp_path / 'data'))
    else:
        config = write_classifier(tmp_path, write_folders(tmp_path / 'data'))
    drive('mmdet/train', config, '--work-dir', tmp_path / 'whole')
    first, last = (tmp_path / 'whole' / f'epoch_{number}.pth' for number in (1, 2))
    assert {'meta', 'optimizer'} <= torch.load(last, weights_only=True).keys()
    for project in ('mmdet', 'mmshuffle'):
        drive(f'{project}/train', config, '--work-dir', tmp_path / project, '--resume', first)
        resumed = torch.load(tmp_path / project / last.name, weights_only=True)['state_dict']
        for key, value in torch.load(last, weights_only=True)['state_dict'].items():
            assert torch.equal(value, resumed[key]), key
        checkpoint = tmp_path / project / last.name
        drive(f'{project}/test', config, checkpoint, '--work-dir', tmp_path / f'{project}_test')
    assert metrics(tmp_path / 'mmdet_test') == metrics(tmp_path / 'mmshuffle_test')


@pytest.mark.parametrize('path', DETECTORS, ids=lambda path: path.stem)
def test_its_inferencers_take_every_detector(tmp_path, path):
    cfg = Config.fromfile(path)
    for transform in cfg.test_dataloader.dataset.pipeline:
        if transform.type == 'Resize':
            transform.scale = (96, 64)  # for speed, as few RoIs
    if 'rpn' in cfg.model.test_cfg:
        cfg.model.test_cfg.rpn.max_per_img = 64
    model = init_detector(copy.deepcopy(cfg), device='cpu')
    weights = tmp_path / 'weights.pth'
    meta = dict(dataset_meta=dict(classes=model.dataset_meta['classes']))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), weights)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    expected = inference_detector(model, image).pred_instances
    inferencer = DetInferencer(cfg, str(weights), device='cpu', show_progress=False)
    found = inferencer(image, return_datasamples=True)['predictions'][0].pred_instances
    assert torch.equal(found.bboxes, expected.bboxes) and torch.equal(found.scores, expected.scores)


TTA = """
tta_model = dict(
    type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.9), max_per_img=7)
)
"""


def test_test_time_augmentation_gives_its_figures(tmp_path):
    """Once with the defaults, once with what the config says."""
    config = write_config(tmp_path, write_coco(tmp_path / 'data'), epochs=1)
    drive('mmshuffle/train', config, '--work-dir', tmp_path / 'work')
    for given in (config, write_over(config, TTA)):
        found = {}
        for tool, option in (('mmdet', '--tta'), ('mmshuffle', '--tta'), ('mmshuffle', '')):
            work = tmp_path / f'{given.stem}-{tool}{option}'
            arguments = ('--work-dir', work, *filter(None, [option]))
            drive(f'{tool}/test', given, tmp_path / 'work/epoch_1.pth', *arguments)
            found[tool, option] = metrics(work)
        assert found['mmdet', '--tta'] == found['mmshuffle', '--tta'] != found['mmshuffle', '']
