"""Each published family converts into a backbone that computes what the published network does."""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.model import BaseModule, PretrainedInit
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn import functional as F

from mmshuffle.backbones import AlexNet, MobileNetV1, ShuffleNetV1, ShuffleNetV2, SqueezeNet
from mmshuffle.classification import ImageClassifier
from mmshuffle.weights import PretrainedStrict, load_pretrained, read_tensors
from tests import references as papers
from tests.conftest import facts, refused
from tests.references import TensorFlowTensors, Tensors

BY_WIDTH = [(0.5,), (1.0,), (1.5,), (2.0,)]
BN, RELU6 = dict(type='BN'), dict(act_cfg=dict(type='ReLU6'))
SLIM = dict(padding='same', norm_cfg=dict(type='BN', eps=1e-3), **RELU6)
relu6_tensors = partial(Tensors, act=F.relu6)
slim_tensors = partial(TensorFlowTensors, act=F.relu6, eps=1e-3)
RGB = 'RGB, mean (123.675, 116.28, 103.53), std (58.395, 57.12, 57.375)'
RAW, SCALED = 'BGR, mean 0, std 1', 'BGR, mean 0, std 255'
CENTRED = 'RGB, mean 127.5, std 127.5'
RETINAFACE = 'BGR, mean (104, 117, 123), std 1'
CAFFE = f'{RGB} (if the file was converted from Caffe: BGR, mean (104, 117, 123), std 1)'


class Family(NamedTuple):
    """A published family: what it computes, ours, variants to try, and the names of its classifier.

    The input and the activation are those that it was trained with.
    """

    reference: Callable
    build: Callable[..., nn.Module]
    variants: list[tuple]
    classifier: tuple[str, ...]
    trained_on: str = RGB
    tensors: Callable[..., Tensors] = Tensors


def v2(width: float, layout: str, conv5: bool = True) -> nn.Module:
    return ShuffleNetV2(width, layout, out_indices=(0, 1, 2, 3, 4)[: 4 + conv5])


def mmdet_v2(**kwargs) -> nn.Module:
    return MODELS.build(dict(type='MobileNetV2', out_indices=tuple(range(8)), **kwargs))


def linear(*layers: str) -> tuple[str, ...]:
    return tuple(f'{layer}.{leaf}' for layer in layers for leaf in ('weight', 'bias'))


def paper_v1(width: float, groups: int, shuffle: str = 'paper') -> nn.Module:
    return ShuffleNetV1(groups, width, shuffle=shuffle)


inverse_v1 = partial(paper_v1, shuffle='inverse')


megvii_layout, torchvision_layout = (partial(v2, layout=name) for name in ('megvii', 'torchvision'))
FC, MEGVII_FC = linear('fc'), ('classifier.0.weight',)
PAPER_V1 = [*((1.0, groups) for groups in (1, 2, 3, 4, 8)), (0.5, 1), (0.5, 3), (2.0, 3)]
MEGVII_V1 = [(width, groups) for (width,) in BY_WIDTH for groups in (3, 8)]
UP_TO_1 = [(0.25,), (0.5,), (0.75,), (1.0,)]
slim_v1, relu6_v1 = partial(MobileNetV1, **SLIM), partial(MobileNetV1, **RELU6)
OF_MMDET = (mmdet_v2, [()], linear('classifier.1'), RGB, relu6_tensors)
squeezenet = partial(SqueezeNet, padding='published')
alexnet = partial(AlexNet, 'torchvision', padding='published')
# Classifiers that a converter renames for an image classifier's head.
CONVERTED = {
    'MobilenetV1/Logits/Conv2d_1c_1x1/weights': 'logits.weight',
    'MobilenetV1/Logits/Conv2d_1c_1x1/biases': 'logits.bias',
}
FAMILIES = {
    'torchvision ShuffleNetV2': Family(papers.torchvision_v2, torchvision_layout, BY_WIDTH, FC),
    'MMPretrain ShuffleNetV2': Family(
        papers.mmpretrain_v2, torchvision_layout, BY_WIDTH, linear('head.fc')
    ),
    'MMPretrain ShuffleNetV1': Family(papers.mmpretrain_v1, paper_v1, PAPER_V1, linear('head.fc')),
    'megvii ShuffleNetV1': Family(papers.megvii_v1, inverse_v1, MEGVII_V1, MEGVII_FC, RAW),
    'megvii ShuffleNetV2': Family(papers.megvii_v2, megvii_layout, BY_WIDTH, MEGVII_FC, RAW),
    'Yolo-FastestV2 ShuffleNetV2': Family(
        papers.yolo_fastest_v2, partial(megvii_layout, conv5=False), [(0.5,)], (), SCALED
    ),
    'TF-slim MobileNetV1': Family(
        papers.tf_slim_v1, slim_v1, UP_TO_1, tuple(CONVERTED), CENTRED, slim_tensors
    ),
    'timm MobileNetV1': Family(
        papers.timm_v1, relu6_v1, [(1.0,), (1.25,)], linear('classifier'), CENTRED, relu6_tensors
    ),
    'RetinaFace MobileNetV1': Family(papers.retinaface_v1, MobileNetV1, UP_TO_1[:2], FC),
    'torchvision MobileNetV2': Family(papers.torchvision_mobilenet_v2, *OF_MMDET),
    'torchvision MobileNetV2 with flat names': Family(
        partial(papers.torchvision_mobilenet_v2, flat=True), *OF_MMDET
    ),
    **{
        f'torchvision SqueezeNet {version}': Family(
            papers.torchvision_squeezenet, squeezenet, [(version,)], linear('classifier.1'), CAFFE
        )
        for version in ('1.0', '1.1')
    },
    'torchvision AlexNet': Family(
        papers.torchvision_alexnet, alexnet, [()], linear(*(f'classifier.{i}' for i in (1, 4, 6)))
    ),
}


@lru_cache(maxsize=4)
def drawn_tensors(name: str, variant: tuple) -> dict[str, torch.Tensor]:
    drawn = FAMILIES[name].tensors()
    with torch.no_grad():
        FAMILIES[name].reference(drawn, torch.rand(1, 3, 64, 64).double(), *variant)
    return drawn.state


def publish(name: str, variant: tuple, folder: Path, prefix: str = '') -> Path:
    """Write a file such as the family's publisher does, with random tensors and a classifier."""
    state = {prefix + key: value for key, value in drawn_tensors(name, variant).items()}
    for key in FAMILIES[name].classifier:
        state[key] = torch.rand(1, 1, 4, 4) if '/weights' in key else torch.rand(4)
    return write(state, folder, name.startswith('TF-slim'))


def write(state: dict[str, torch.Tensor], folder: Path, numpy: bool) -> Path:
    path = folder / f'published.{"npz" if numpy else "pth"}'
    if numpy:
        np.savez(path, **{key: value.numpy() for key, value in state.items()})
    else:
        torch.save({'state_dict': state}, path)
    return path


def relative_difference(outputs, expected) -> float:
    return max(
        ((a - b).abs().max() / b.abs().max()).item() for a, b in zip(outputs, expected, strict=True)
    )


@pytest.mark.parametrize(
    ('name', 'variant'),
    [(name, variant) for name, family in FAMILIES.items() for variant in family.variants],
    ids=str,
)
def test_the_backbone_computes_what_the_published_network_does(name, variant, tmp_path):
    family, path = FAMILIES[name], publish(name, variant, tmp_path)
    net = family.build(*variant).double()
    net.eval()  # MMDetection's MobileNetV2 returns None here.
    report = load_pretrained(net, str(path))
    assert report.family == name
    assert not report.missing and not report.misshapen and not report.hints
    assert report.unexpected == sorted(CONVERTED.get(key, key) for key in family.classifier)
    assert f'trained on {family.trained_on}' in str(report)
    assert all(torch.isfinite(v).all() for v in net.state_dict().values())
    published = family.tensors(read_tensors(path))
    # TensorFlow pads even and odd sides differently.
    x = torch.rand(2, 3, 65, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = family.reference(published, x, *variant)
        assert relative_difference(net(x), expected) < 1e-10
        # Nothing that the reference computes is constant, or a wrong layer could go unseen.
        assert all(y.std() > 1e-3 for y in expected)


# A family, the variant of a file, a network that it does not fit, and what is said.
WRONG = [
    ('torchvision ShuffleNetV2', (0.5,), partial(ShuffleNetV2, 0.5), "layout='torchvision'"),
    ('MMPretrain ShuffleNetV2', (0.5,), partial(v2, 1.0, 'torchvision'), r'factor=1.0.*\(58, 24'),
    ('MMPretrain ShuffleNetV1', (0.5, 3), partial(inverse_v1, 0.5, 3), "shuffle='paper'"),
    ('MMPretrain ShuffleNetV1', (1.5, 3), partial(ShuffleNetV1, 3, 1.5), r'0.conv.weight \(36, 3'),
    ('megvii ShuffleNetV1', (0.5, 3), partial(ShuffleNetV1, 3, 0.5), "shuffle='inverse'"),
    ('megvii ShuffleNetV1', (0.5, 3), partial(inverse_v1, 0.5, 8), r'groups=8.*0.conv.weight \(12'),
    ('megvii ShuffleNetV2', (0.5,), partial(torchvision_layout, 0.5), "layout='megvii'"),
    ('megvii ShuffleNetV2', (0.5,), partial(inverse_v1, 0.5, 3), r'missing \(stages.1.0.reduce'),
    ('Yolo-FastestV2 ShuffleNetV2', (0.5,), partial(megvii_layout, 0.5), r'5 missing \(stages.4.'),
    ('torchvision MobileNetV2', (), partial(mmdet_v2, widen_factor=0.5), r'5.* for \(16, 3'),
    ('torchvision SqueezeNet 1.0', ('1.0',), partial(SqueezeNet, '1.1'), "version='1.0'"),
    ('torchvision SqueezeNet 1.1', ('1.1',), partial(SqueezeNet, '1.1', 'simple'), 'bypass=None'),
    ('torchvision SqueezeNet 1.1', ('1.1',), partial(SqueezeNet, '1.1', norm_cfg=BN), 'bn.weight'),
    ('torchvision AlexNet', (), AlexNet, "version='torchvision'"),
]


@pytest.mark.parametrize(('name', 'variant', 'build', 'message'), WRONG)
def test_what_does_not_fit_is_refused_and_changes_nothing(name, variant, build, message, tmp_path):
    path = publish(name, variant, tmp_path)
    net = build()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with refused(message):
        load_pretrained(net, str(path))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


NANODET, FACES = partial(ShuffleNetV2, 0.5, 'torchvision'), partial(MobileNetV1, 0.5)
DETECTORS = {
    'NanoDet ShuffleNetV2': ('model.backbone.', NANODET, 'BGR, mean (103.53, 116.28, 123.675)'),
    'RetinaFace MobileNetV1, of a detector': ('module.body.', FACES, RETINAFACE),
}


@pytest.mark.parametrize('name', DETECTORS)
def test_a_detector_tells_its_own_input_and_activation(name, tmp_path):
    prefix, build, trained = DETECTORS[name]
    classifier = 'torchvision ShuffleNetV2' if build is NANODET else 'RetinaFace MobileNetV1'
    path = publish(classifier, (0.5,), tmp_path, prefix=prefix)
    leaky = "give act_cfg=dict(type='LeakyReLU', negative_slope=0.1)"
    for given in (None, prefix.removeprefix('module.').rstrip('.')):
        act_cfg = dict(type='LeakyReLU', negative_slope=0.1)
        report = load_pretrained(build(act_cfg=act_cfg), str(path), prefix=given)
        assert report.family == name and not report.hints and trained in str(report)
    (hint,) = load_pretrained(build(), str(path)).hints
    assert hint == f'trained with LeakyReLU, not ReLU: {leaky}'
    (hint,) = load_pretrained(build(act_cfg=dict(type='LeakyReLU')), str(path)).hints
    assert "not {'type': 'LeakyReLU', 'negative_slope': 0.01}" in hint and leaky in hint


def test_other_settings_than_the_published_are_hinted_at_and_logged(tmp_path, monkeypatch):
    path = publish('TF-slim MobileNetV1', (0.25,), tmp_path)
    logged = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'handle', logged.append)
    report = load_pretrained(MobileNetV1(0.25), str(path))
    assert report.hints == [
        "trained with BatchNorm eps 0.001, not 1e-05: give norm_cfg=dict(type='BN', eps=0.001)",
        "trained with ReLU6, not ReLU: give act_cfg=dict(type='ReLU6')",
    ]
    # Either padding is in use with these weights.
    assert not load_pretrained(MobileNetV1(0.25, **{**SLIM, 'padding': 'symmetric'}), path).hints
    reports = [record for record in logged if record.getMessage().startswith('loaded ')]
    assert [record.levelname for record in reports] == ['WARNING', 'INFO']
    assert all('trained on RGB, mean 127.5, std 127.5' in r.getMessage() for r in reports)


def test_strict_initializer_of_mmdetections_network_takes_a_prefix_and_exceptions(tmp_path):
    path = publish('torchvision MobileNetV2', (), tmp_path, prefix='module.net.')
    state = {k: v for k, v in read_tensors(path).items() if 'features.18' not in k}
    torch.save(state, tmp_path / 'part.pth')
    given = dict(type='PretrainedStrict', checkpoint=str(tmp_path / 'part.pth'), prefix='net')
    with refused(r'missing \(conv2.conv.weight'):
        mmdet_v2(init_cfg=given).init_weights()
    # From the top, as a runner does: nothing that is initialised later may overwrite the weights.
    detector = BaseModule()
    net = detector.backbone = mmdet_v2(init_cfg=dict(given, allow_missing=['conv2.']))
    nn.init.zeros_(net.conv2.conv.weight)
    detector.init_weights()
    assert torch.equal(net.conv1.bn.bias, state['net.features.0.1.bias'].float())
    # What is missing is initialised as it would be without a checkpoint.
    assert net.conv2.conv.weight.std() > 0


@pytest.mark.parametrize(
    'kind',
    [
        *('Pretrained', 'PretrainedStrict', 'PretrainedInit', 'mmengine.Pretrained'),
        *(PretrainedInit, PretrainedStrict),
    ],
)
@pytest.mark.parametrize('listed', [False, True])
def test_every_name_of_the_initialiser_loads_strictly(kind, listed, tmp_path):
    path = publish('torchvision ShuffleNetV2', (0.5,), tmp_path)
    expected = read_tensors(path)['stage4.2.branch2.4.bias'].float()
    backbone = dict(type='ShuffleNetV2', widen_factor=0.5, layout='torchvision')
    head = dict(type='LinearHead', in_channels=192, num_classes=3)
    for bad in (False, True):
        if bad:
            publish('megvii ShuffleNetV2', (0.5,), tmp_path)
        cfg = dict(type=kind, checkpoint=str(path))
        cfg = [dict(type='Kaiming', layer='Conv2d'), cfg] if listed else cfg
        networks = (
            ShuffleNetV2(0.5, 'torchvision', init_cfg=cfg),
            ImageClassifier({**backbone, 'init_cfg': cfg}, head),
            MODELS.build(dict(type='BackboneStageHead', backbone=backbone, init_cfg=cfg)),
        )
        for net in networks:
            if bad:
                with refused("layout='megvii'"):
                    net.init_weights()
                continue
            net.init_weights()
            stage = net.stage if hasattr(net, 'stage') else getattr(net, 'backbone', net).stages[3]
            assert torch.equal(stage.branches[2][1].bn.bias, expected)
    for wrong in (dict(type=kind, path='x'), dict(type=kind), dict(type=kind, checkpoint=None)):
        with refused(r'init_cfg of type .*: give checkpoint'):
            ShuffleNetV2(0.5, init_cfg=wrong).init_weights()


def test_real_weights_of_both_layouts_give_the_same_up_to_the_order_of_channels():
    theirs = v2(0.5, 'torchvision', conv5=False).eval()
    load_pretrained(theirs, facts('weights/shufflenet_v2_x0.5_backbone_torchvision-layout.pth'))
    ours = v2(0.5, 'megvii', conv5=False).eval()
    report = load_pretrained(ours, facts('weights/shufflenet_v2_x0.5_backbone_megvii-layout.pth'))
    assert report.family == 'Yolo-FastestV2 ShuffleNetV2'
    assert len(report.matched) == len(ours.state_dict()) and not report.unexpected
    x = torch.rand(2, 3, 96, 128)
    with torch.no_grad():
        stem, *outputs = zip(ours(x), theirs(x), strict=True)
    assert torch.equal(*stem)
    for a, b in outputs:
        distances = torch.cdist(*(y.transpose(0, 1).flatten(1) for y in (b, a)))
        _, order = linear_sum_assignment(distances)
        assert (a[:, order] - b).abs().max() < 1e-5
        assert (a - b).abs().max() > 0.1
