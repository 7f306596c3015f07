"""channels_last never reaches mmcv's RoI operators."""

import warnings

import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmshuffle.engine import set_memory_format
from tests.tiny import write_coco, write_config

ROIS = torch.tensor([[0.0, 2.0, 3.0, 40.0, 50.0], [1.0, 5.0, 1.0, 30.0, 20.0]])


def test_a_detector_computes_the_same_in_both_layouts(tmp_path):
    cfg = Config.fromfile(write_config(tmp_path, write_coco(tmp_path / 'data')))
    torch.manual_seed(0)
    detector = MODELS.build(cfg.model)
    detector.init_weights()
    detector.eval()
    seen = []
    detector.backbone.stages[1].register_forward_hook(
        lambda _, __, y: seen.append(y.is_contiguous(memory_format=torch.channels_last))
    )
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        extractor = detector.roi_head.bbox_roi_extractor
        expected = extractor(detector.extract_feat(x)[:4], ROIS)
        set_memory_format(detector, 'channels_last')
        found = extractor(detector.extract_feat(x)[:4], ROIS)
    assert seen == [False, True]
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_deformable_convolutions_get_contiguous_features_and_weights():
    torch.manual_seed(0)
    layer = ModulatedDeformConv2dPack(8, 8, 3, padding=1)
    nn.init.normal_(layer.conv_offset.weight, std=0.1)
    x = torch.randn(1, 8, 12, 12)
    expected = layer(x)
    model = nn.ModuleDict({'backbone': nn.Identity(), 'dcn': layer})
    set_memory_format(model, 'channels_last')
    set_memory_format(model, 'channels_last')
    assert len(model._memory_format_hooks) == 2
    found = layer(x.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(found, expected, atol=1e-5)


def test_unknown_layouts_are_named():
    with pytest.raises(ValueError, match='contiguous, channels_last'):
        set_memory_format(nn.Identity(), 'nhwc')


class Net(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))

    def forward(self, inputs: list, mode: str) -> dict:
        return dict(loss=self.backbone(torch.stack(inputs)).square().mean())


def test_gradient_buckets_have_the_layout_of_the_weights(tmp_path, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    store = f'file://{tmp_path}/store'
    torch.distributed.init_process_group('gloo', init_method=store, rank=0, world_size=1)
    wrapper = dict(
        type='MMDistributedDataParallel',
        find_unused_parameters=True,  # otherwise the buckets are laid out anew after a step
        device_ids=None,
    )
    try:
        runner = Runner(
            Net(),
            str(tmp_path / 'work'),
            train_dataloader=dict(
                dataset=[dict(inputs=torch.randn(3, 12, 12))] * 4,
                sampler=dict(type='DefaultSampler', shuffle=False),
                batch_size=2,
            ),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            custom_hooks=[dict(type='MemoryFormatHook')],
            launcher='pytorch',
            experiment_name=tmp_path.name,
            cfg=Config(dict(model_wrapper_cfg=wrapper)),
        )
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter('always')
            runner.train()
    finally:
        torch.distributed.destroy_process_group()
    assert not [warning for warning in seen if 'Grad strides' in str(warning.message)]
    weight = runner.model.module.backbone[1].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
