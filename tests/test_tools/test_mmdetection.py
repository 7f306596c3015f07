"""MMDetection's own tools and inferencers with the project's configs and checkpoints."""

import copy
import json
import re
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config

from mmshuffle.engine import shipped
from mmshuffle.engine.checkpoint import from_plain
from mmshuffle.weights import read_checkpoint, read_tensors
from tests.conftest import REPO
from tests.test_tools.conftest import assert_done, run
from tests.tiny import write_classifier, write_coco, write_config, write_folders, write_over

TOOLS = Path(mmdet.__file__).parent / '.mim' / 'tools'
# Of those that differ in the backbone's width alone, the narrowest.
DETECTORS = {
    re.sub(r'-(x[\d.]+|\d+m|star)(?=[-_])', '', path.stem): path
    for path in sorted(shipped.names().values(), key=lambda path: path.stem, reverse=True)
    if 'imagenet' not in path.parts
}


def drive(tool: str, *args: object) -> None:
    """Run ``mmdet/test`` or ``mmshuffle/train``, the tool of one or the other, in this process."""
    project, name = tool.split('/')
    folder = TOOLS if project == 'mmdet' else REPO / 'tools'
    assert_done(run(folder / f'{name}.py', *args))


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


# Neither this project's hooks nor its way of saving; and averages, as many train with.
STOCK = """
default_hooks = dict(checkpoint=dict(backend_args=None))
custom_hooks = [dict(type='EMAHook')]
"""


def test_checkpoints_of_its_own_hooks_are_taken_by_every_tool(tmp_path, call):
    config = write_config(tmp_path, write_coco(tmp_path / 'data', images=2), STOCK, epochs=1)
    drive('mmdet/train', config, '--work-dir', tmp_path / 'work')
    checkpoint = tmp_path / 'work' / 'epoch_1.pth'
    before = read_checkpoint(checkpoint)

    drive('mmshuffle/test', config, checkpoint, '--work-dir', tmp_path / 'test')
    (log,) = (tmp_path / 'work').glob('*/*.log')
    (validated,) = re.findall(r'coco/bbox_mAP: ([\d.]+)', log.read_text())
    assert metrics(tmp_path / 'test')['coco/bbox_mAP'] == float(validated)

    more = ('--cfg-options', 'train_cfg.max_epochs=2', '--work-dir', tmp_path / 'more')
    drive('mmshuffle/train', config, '--resume', checkpoint, *more)
    after = torch.load(tmp_path / 'more' / 'epoch_2.pth', weights_only=True)
    assert (after['meta']['epoch'], after['meta']['iter']) == (2, 2)
    assert after['meta']['seed'] == before['meta']['seed']
    # The log goes on, and so do the optimiser and the averages.
    first, both = (
        from_plain(content['message_hub']['log_scalars']['train/loss']).data[0].tolist()
        for content in (before, read_checkpoint(tmp_path / 'more' / 'epoch_2.pth'))
    )
    assert len(both) == 2 and both[:1] == first
    buffers = [c['optimizer']['state'][0]['momentum_buffer'] for c in (before, after)]
    assert not torch.equal(*buffers) and after['ema_state_dict']['steps'] == 2

    options = ('--cfg-options', f'load_from={checkpoint}', 'optim_wrapper.optimizer.lr=1e-30')
    drive('mmshuffle/train', config, *options, '--work-dir', tmp_path / 'other')
    name = 'backbone.stages.3.branches.2.1.conv.weight'
    start, end = (read_tensors(p)[name] for p in (checkpoint, tmp_path / 'other/epoch_1.pth'))
    assert torch.equal(start, end)

    form = ('--format', 'torchscript', '--part', 'backbone', '--shape', 64, 96)
    assert_done(call('export', config, checkpoint, *form, '--out', tmp_path / 'a.pt'))
    assert_done(call('convert_weights', checkpoint, tmp_path / 'b.pth', '--config', config))
    assert_done(call('publish_weights', checkpoint, tmp_path / 'c'))
    whole, (published,) = before['state_dict'], tmp_path.glob('c-*')
    backbone = read_tensors(tmp_path / 'b.pth')
    assert all(torch.equal(whole[f'backbone.{name}'], v) for name, v in backbone.items())
    assert read_tensors(published).keys() == whole.keys()


@pytest.mark.parametrize('path', DETECTORS.values(), ids=DETECTORS)
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
    (log,) = (tmp_path / 'work').glob('*/*.log')
    plain = {k: float(v) for k, v in re.findall(r'(coco/\w+): ([-\d.]+)', log.read_text())}
    for given in (config, write_over(config, TTA)):
        found = {}
        for tool in ('mmdet', 'mmshuffle'):
            work = ('--work-dir', tmp_path / f'{given.stem}-{tool}')
            drive(f'{tool}/test', given, tmp_path / 'work/epoch_1.pth', '--tta', *work)
            found[tool] = metrics(work[1])
        assert found['mmdet'] == found['mmshuffle'] and found['mmdet'].keys() == plain.keys()
        assert found['mmdet'] != plain
