"""channels_last never reaches mmcv's RoI operators."""

from types import SimpleNamespace

import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmshuffle.engine import MemoryFormatHook, set_memory_format
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


@pytest.mark.parametrize('wrap', [nn.Identity, nn.DataParallel])
def test_a_distributed_wrapper_is_made_anew_around_the_converted_model(wrap):
    """It lays out its buckets by the strides of the gradients, once."""
    net = nn.ModuleDict({'backbone': nn.Conv2d(8, 4, 3)})
    layouts = []

    def wrap_model(cfg, model):
        assert model is net and cfg is wrapper
        layouts.append(model['backbone'].weight.is_contiguous(memory_format=torch.channels_last))
        return nn.DataParallel(model)

    wrapper = dict(type='DataParallel')
    given = net if wrap is nn.Identity else wrap(net)
    runner = SimpleNamespace(model=given, cfg=dict(model_wrapper_cfg=wrapper))
    runner.wrap_model = wrap_model
    hook = MemoryFormatHook()
    for _ in range(2):
        hook.before_run(runner)
    assert layouts == [True] * (given is not net) and (runner.model is given) == (given is net)
    assert net['backbone'].weight.is_contiguous(memory_format=torch.channels_last)
