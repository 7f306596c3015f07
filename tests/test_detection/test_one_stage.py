"""What MMDetection's one-stage heads lack, made good in subclasses."""

import mmdet
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.structures import InstanceData

from mmshuffle.engine import shipped

META = dict(img_shape=(96, 128), ori_shape=(96, 128), scale_factor=(1.0, 1.0), img_id=1)
SSDS = (('ssdlite_mobilenetv2-scratch_8xb24-600e_coco', 320), ('ssd300_coco', 300))


@pytest.mark.parametrize(('name', 'size'), SSDS)
def test_a_stock_ssd_predicts_with_the_head_that_can(name, size):
    cfg = get_config(f'mmdet::ssd/{name}.py').model
    head = MODELS.build({**cfg.bbox_head, 'type': 'PredictingSSDHead', 'test_cfg': cfg.test_cfg})
    head.eval().test_cfg.score_thr = 0
    sides = [-(-size // stride) for stride in cfg.bbox_head.anchor_generator.strides]
    widths = cfg.bbox_head.in_channels
    maps = [torch.randn(1, c, side, side) for c, side in zip(widths, sides, strict=True)]
    meta = dict(META, img_shape=(size, size), ori_shape=(size, size))
    with torch.no_grad():
        scores, offsets = head(maps)
        (found,) = head.predict_by_feat(scores, offsets, batch_img_metas=[meta])
    assert len(found) == cfg.test_cfg.max_per_img
    # The best score is the softmax's, of a class that is not the background.
    logits = torch.cat([s.permute(0, 2, 3, 1).reshape(-1, 81) for s in scores])
    assert torch.isclose(found.scores[0], logits.softmax(1)[:, :-1].max())


@pytest.mark.parametrize(('version', 'added'), [('3.3.0', True), ('3.4.0', False)])
def test_the_head_is_changed_on_the_version_with_the_fault_alone(version, added, monkeypatch):
    monkeypatch.setattr(mmdet, '__version__', version)
    cfg = get_config('mmdet::ssd/ssd300_coco.py').model.bbox_head
    head = MODELS.build({**cfg, 'type': 'PredictingSSDHead'})
    assert hasattr(head, 'loss_cls') == added
    assert list(head.state_dict()) == list(MODELS.build(cfg).state_dict())


def test_dynamic_gfl_hands_its_assigner_what_it_predicts(monkeypatch):
    cfg = Config.fromfile(shipped.find('gfl_shufflenetv2-x0.5_pafpn-320_8xb24-120e_coco')).model
    head = MODELS.build({**cfg.bbox_head, 'train_cfg': cfg.train_cfg, 'num_classes': 3})
    sizes = [(12, 16), (6, 8), (3, 4), (2, 2)]
    scores = [torch.randn(2, 3, *size, requires_grad=True) for size in sizes]
    offsets = [torch.randn(2, 32, *size, requires_grad=True) for size in sizes]
    truths = [
        InstanceData(bboxes=torch.tensor([[8.0, 8.0, 60.0, 50.0]]), labels=torch.tensor([2])),
        InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)),
    ]
    seen = []
    assign = type(head.assigner).assign

    def watch(self, pred_instances, *args, **kwargs):
        seen.append((pred_instances, assign(self, pred_instances, *args, **kwargs)))
        return seen[-1][1]

    monkeypatch.setattr(type(head.assigner), 'assign', watch)
    # The second image is smaller than the batch: places beyond its border are left out.
    metas = [META, {**META, 'img_shape': (96, 64)}]
    metas = [{**meta, 'pad_shape': meta['img_shape']} for meta in metas]
    losses = head.loss_by_feat(scores, offsets, truths, metas)
    assert sum(sum(values) for values in losses.values()).isfinite()
    assert [int((result.gt_inds > 0).sum()) > 0 for _, result in seen] == [True, False]
    assert type(head.assigner).__name__ == 'DynamicSoftLabelAssigner'

    for index, width in enumerate((128, 64)):
        rows = []
        for score, offset, stride in zip(scores, offsets, (8, 16, 32, 64), strict=True):
            grid = torch.meshgrid(*map(torch.arange, score.shape[2:]), indexing='ij')
            centre = torch.stack(grid[::-1]) * stride
            bins = offset[index].unflatten(0, (4, 8)).softmax(1)
            sides = (bins * torch.arange(8)[:, None, None]).sum(1) * stride
            box = torch.cat((centre - sides[:2], centre + sides[2:]))
            row = torch.cat((box, score[index], centre, torch.full_like(centre, stride)))
            rows.append(row[:, centre[0] < width].t())
        predictions, rows = seen[index][0], torch.cat(rows)
        assert torch.allclose(predictions.bboxes, rows[:, :4], atol=1e-4)
        assert torch.equal(predictions.scores, rows[:, 4:7])
        assert torch.equal(predictions.priors, rows[:, 7:])
