"""Each published family converts into a backbone that computes what the published network does."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.model import BaseModule, PretrainedInit
from torch import nn
from torch.nn import functional as F

from mmshuffle.backbones import AlexNet, MobileNetV1, ShuffleNetV1, ShuffleNetV2, SqueezeNet
from mmshuffle.classification import ImageClassifier
from mmshuffle.errors import UserError
from mmshuffle.weights import PretrainedStrict, load_pretrained, read_tensors
from tests import references
from tests.conftest import facts
from tests.references import TensorFlowTensors, Tensors

WIDTHS = (0.5, 1.0, 1.5, 2.0)
RELU6 = dict(act_cfg=dict(type='ReLU6'))
SLIM = dict(padding='same', norm_cfg=dict(type='BN', eps=1e-3), **RELU6)
relu_tensors = Tensors
relu6_tensors = partial(Tensors, act=F.relu6)
slim_tensors = partial(TensorFlowTensors, act=F.relu6, eps=1e-3)


def v2(width: float, layout: str, conv5: bool = True) -> nn.Module:
    return ShuffleNetV2(width, layout, out_indices=(0, 1, 2, 3, 4)[: 4 + conv5])


def mmdet_v2(**kwargs) -> nn.Module:
    return MODELS.build(dict(type='MobileNetV2', out_indices=tuple(range(8)), **kwargs))


# Name in the report: (reference, its tensors, our network, variants, classifier, input).
RGB = 'RGB, mean (123.675, 116.28, 103.53), std (58.395, 57.12, 57.375)'
FAMILIES = {
    'torchvision ShuffleNetV2': (
        references.torchvision_v2,
        relu_tensors,
        lambda width: v2(width, 'torchvision'),
        [(width,) for width in WIDTHS],
        ('fc.weight', 'fc.bias'),
        RGB,
    ),
    'MMPretrain ShuffleNetV2': (
        references.mmpretrain_v2,
        relu_tensors,
        lambda width: v2(width, 'torchvision'),
        [(width,) for width in WIDTHS],
        ('head.fc.weight', 'head.fc.bias'),
        RGB,
    ),
    'MMPretrain ShuffleNetV1': (
        references.mmpretrain_v1,
        relu_tensors,
        lambda width, groups: ShuffleNetV1(groups, width),
        [(1.0, 1), (1.0, 2), (1.0, 3), (1.0, 4), (1.0, 8), (0.5, 1), (0.5, 3), (2.0, 3)],
        ('head.fc.weight', 'head.fc.bias'),
        RGB,
    ),
    'megvii ShuffleNetV1': (
        references.megvii_v1,
        relu_tensors,
        lambda width, groups: ShuffleNetV1(groups, width, shuffle='inverse'),
        [(width, groups) for width in WIDTHS for groups in (3, 8)],
        ('classifier.0.weight',),
        'BGR, mean 0, std 1',
    ),
    'megvii ShuffleNetV2': (
        references.megvii_v2,
        relu_tensors,
        lambda width: v2(width, 'megvii'),
        [(width,) for width in WIDTHS],
        ('classifier.0.weight',),
        'BGR, mean 0, std 1',
    ),
    'Yolo-FastestV2 ShuffleNetV2': (
        references.yolo_fastest_v2,
        relu_tensors,
        lambda width: v2(width, 'megvii', conv5=False),
        [(0.5,)],
        (),
        'BGR, mean 0, std 255',
    ),
    'TF-slim MobileNetV1': (
        references.tf_slim_v1,
        slim_tensors,
        lambda width: MobileNetV1(width, **SLIM),
        [(width,) for width in (0.25, 0.5, 0.75, 1.0)],
        ('MobilenetV1/Logits/Conv2d_1c_1x1/weights', 'MobilenetV1/Logits/Conv2d_1c_1x1/biases'),
        'RGB, mean 127.5, std 127.5',
    ),
    'timm MobileNetV1': (
        references.timm_v1,
        relu6_tensors,
        lambda width: MobileNetV1(width, **RELU6),
        [(1.0,), (1.25,)],
        ('classifier.weight', 'classifier.bias'),
        'RGB, mean 127.5, std 127.5',
    ),
    'RetinaFace MobileNetV1': (
        references.retinaface_v1,
        relu_tensors,
        lambda width: MobileNetV1(width),
        [(0.25,), (0.5,)],
        ('fc.weight', 'fc.bias'),
        RGB,
    ),
    'torchvision MobileNetV2': (
        references.torchvision_mobilenet_v2,
        relu6_tensors,
        mmdet_v2,
        [()],
        ('classifier.1.weight', 'classifier.1.bias'),
        RGB,
    ),
    'torchvision MobileNetV2 with flat names': (
        partial(references.torchvision_mobilenet_v2, flat=True),
        relu6_tensors,
        mmdet_v2,
        [()],
        ('classifier.1.weight', 'classifier.1.bias'),
        RGB,
    ),
    **{
        f'torchvision SqueezeNet {version}': (
            references.torchvision_squeezenet,
            relu_tensors,
            lambda version: SqueezeNet(version, padding='published'),
            [(version,)],
            ('classifier.1.weight', 'classifier.1.bias'),
            f'{RGB} (if the file was converted from Caffe: BGR, mean (104, 117, 123), std 1)',
        )
        for version in ('1.0', '1.1')
    },
    'torchvision AlexNet': (
        references.torchvision_alexnet,
        relu_tensors,
        lambda: AlexNet('torchvision', padding='published'),
        [()],
        tuple(f'classifier.{i}.{leaf}' for i in (1, 4, 6) for leaf in ('weight', 'bias')),
        RGB,
    ),
}
# Classifiers that a converter renames for an image classifier's head.
CONVERTED = {
    'MobilenetV1/Logits/Conv2d_1c_1x1/weights': 'logits.weight',
    'MobilenetV1/Logits/Conv2d_1c_1x1/biases': 'logits.bias',
}
VARIANTS = [
    pytest.param(name, variant, id='-'.join(map(str, (name, *variant))))
    for name, (_, _, _, variants, _, _) in FAMILIES.items()
    for variant in variants
]


def publish(name: str, variant: tuple, folder: Path, prefix: str = '') -> Path:
    """Write a file such as the family's publisher does, with random tensors and a classifier."""
    reference, tensors, _, _, classifier, _ = FAMILIES[name]
    drawn = tensors()
    with torch.no_grad():
        reference(drawn, torch.rand(1, 3, 64, 64, dtype=torch.float64), *variant)
    state = {prefix + key: value for key, value in drawn.state.items()}
    state.update(
        {key: torch.rand(1, 1, 4, 4) if '/weights' in key else torch.rand(4) for key in classifier}
    )
    if name.startswith('TF-slim'):
        path = folder / 'published.npz'
        np.savez(path, **{key: value.numpy() for key, value in state.items()})
    else:
        path = folder / 'published.pth'
        torch.save({'state_dict': state}, path)
    return path


def relative_difference(outputs, expected) -> float:
    return max(
        ((a - b).abs().max() / b.abs().max()).item() for a, b in zip(outputs, expected, strict=True)
    )


@pytest.mark.parametrize(('name', 'variant'), VARIANTS)
def test_the_backbone_computes_what_the_published_network_does(name, variant, tmp_path):
    reference, tensors, build, _, classifier, normalisation = FAMILIES[name]
    path = publish(name, variant, tmp_path)
    net = build(*variant).double()
    net.eval()  # MMDetection's MobileNetV2 returns None here.
    report = load_pretrained(net, str(path))
    assert report.family == name
    assert not report.missing and not report.misshapen and not report.hints
    assert report.unexpected == sorted(CONVERTED.get(key, key) for key in classifier)
    assert f'trained on {normalisation}' in str(report)
    assert all(torch.isfinite(v).all() for v in net.state_dict().values())
    published = tensors(read_tensors(path))
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = reference(published, x, *variant)
        assert relative_difference(net(x), expected) < 1e-10
        # Nothing that the reference computes is constant, or a wrong layer could go unseen.
        assert all(y.std() > 1e-3 for y in expected)


WRONG = {
    'torchvision-layout': (
        'torchvision ShuffleNetV2',
        (0.5,),
        lambda: ShuffleNetV2(0.5, 'megvii'),
        "layout='torchvision'",
    ),
    'mmpretrain-width': (
        'MMPretrain ShuffleNetV2',
        (0.5,),
        lambda: ShuffleNetV2(1.0, 'torchvision'),
        r'widen_factor=1.0.*stages.1.* \(24, 24, 1, 1\) for \(58, 24, 1, 1\)',
    ),
    'mmpretrain-v1-shuffle': (
        'MMPretrain ShuffleNetV1',
        (0.5, 3),
        lambda: ShuffleNetV1(3, 0.5, shuffle='inverse'),
        "shuffle='paper'",
    ),
    'mmpretrain-v1-stem': (
        'MMPretrain ShuffleNetV1',
        (1.5, 3),
        lambda: ShuffleNetV1(3, 1.5),
        r'stages.0.0.conv.weight \(36, 3, 3, 3\) for \(24, 3, 3, 3\)',
    ),
    'megvii-v1-shuffle': (
        'megvii ShuffleNetV1',
        (0.5, 3),
        lambda: ShuffleNetV1(3, 0.5),
        "shuffle='inverse'",
    ),
    'megvii-v1-groups': (
        'megvii ShuffleNetV1',
        (0.5, 3),
        lambda: ShuffleNetV1(8, 0.5, shuffle='inverse'),
        r'groups=8.*stages.0.0.conv.weight \(12, 3, 3, 3\) for \(16, 3, 3, 3\)',
    ),
    'megvii-layout': (
        'megvii ShuffleNetV2',
        (0.5,),
        lambda: ShuffleNetV2(0.5, 'torchvision'),
        "layout='megvii'",
    ),
    'megvii-other-network': (
        'megvii ShuffleNetV2',
        (0.5,),
        lambda: ShuffleNetV1(3, 0.5, shuffle='inverse'),
        r'ShuffleNetV1.*missing \(stages.1.0.reduce.conv.weight',
    ),
    'yolo-fastest-conv5': (
        'Yolo-FastestV2 ShuffleNetV2',
        (0.5,),
        lambda: v2(0.5, 'megvii'),
        r'5 missing \(stages.4.conv.weight',
    ),
    'mobilenet-v2-width': (
        'torchvision MobileNetV2',
        (),
        lambda: mmdet_v2(widen_factor=0.5),
        r'MobileNetV2\(widen_factor=0.5\).*\(32, 3, 3, 3\) for \(16, 3, 3, 3\)',
    ),
    'squeezenet-version': (
        'torchvision SqueezeNet 1.0',
        ('1.0',),
        lambda: SqueezeNet('1.1'),
        "version='1.0'",
    ),
    'squeezenet-simple-bypass': (
        'torchvision SqueezeNet 1.1',
        ('1.1',),
        lambda: SqueezeNet('1.1', bypass='simple'),
        'bypass=None',
    ),
    'squeezenet-norm': (
        'torchvision SqueezeNet 1.1',
        ('1.1',),
        lambda: SqueezeNet('1.1', norm_cfg=dict(type='BN')),
        r'missing \(stages.0.0.bn.weight',
    ),
    'alexnet-version': ('torchvision AlexNet', (), AlexNet, "version='torchvision'"),
}


@pytest.mark.parametrize('case', WRONG)
def test_what_does_not_fit_is_refused_and_changes_nothing(case, tmp_path):
    name, variant, build, message = WRONG[case]
    path = publish(name, variant, tmp_path)
    net = build()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(UserError, match=message) as caught:
        load_pretrained(net, str(path))
    assert '\n' not in str(caught.value)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_own_names_below_a_leading_backbone_are_found(tmp_path):
    donor, net = MobileNetV1(0.25), MobileNetV1(0.25)
    state = {f'backbone.{key}': value for key, value in donor.state_dict().items()}
    torch.save({**state, 'neck.weight': torch.ones(1)}, tmp_path / 'detector.pth')
    report = load_pretrained(net, str(tmp_path / 'detector.pth'))
    assert report.family == 'own names' and report.unexpected == ['neck.weight']
    assert report.normalisation is None
    assert torch.equal(net.stages[0][0].conv.weight, donor.stages[0][0].conv.weight)


@pytest.mark.parametrize(
    ('classifier', 'prefix', 'name', 'build', 'trained'),
    [
        (
            'torchvision ShuffleNetV2',
            'model.backbone.',
            'NanoDet ShuffleNetV2',
            partial(ShuffleNetV2, 0.5, 'torchvision'),
            'BGR, mean (103.53, 116.28, 123.675)',
        ),
        (
            'RetinaFace MobileNetV1',
            'module.body.',
            'RetinaFace MobileNetV1, of a detector',
            partial(MobileNetV1, 0.5),
            'BGR, mean (104, 117, 123), std 1',
        ),
    ],
)
def test_a_detector_tells_its_own_input_and_activation(
    classifier, prefix, name, build, trained, tmp_path
):
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


def test_other_settings_than_the_published_are_hinted_at_and_logged(tmp_path):
    path = publish('TF-slim MobileNetV1', (0.25,), tmp_path)
    logged = []
    logger = MMLogger.get_current_instance()
    handler = logging.Handler()
    handler.emit = logged.append
    logger.addHandler(handler)
    try:
        report = load_pretrained(MobileNetV1(0.25), str(path))
        assert report.hints == [
            "trained with BatchNorm eps 0.001, not 1e-05: give norm_cfg=dict(type='BN', eps=0.001)",
            "trained with ReLU6, not ReLU: give act_cfg=dict(type='ReLU6')",
        ]
        # Either padding is in use with these weights.
        assert not load_pretrained(
            MobileNetV1(0.25, **{**SLIM, 'padding': 'symmetric'}), path
        ).hints
    finally:
        logger.removeHandler(handler)
    reports = [record for record in logged if record.getMessage().startswith('loaded ')]
    assert [record.levelname for record in reports] == ['WARNING', 'INFO']
    assert all('trained on RGB, mean 127.5, std 127.5' in r.getMessage() for r in reports)


def mmdet_backbone(path: Path, **kwargs) -> nn.Module:
    init_cfg = dict(type='PretrainedStrict', checkpoint=str(path), **kwargs)
    return mmdet_v2(init_cfg=init_cfg)


def test_strict_initializer_fills_mmdetections_mobilenet_v2(tmp_path):
    name = 'torchvision MobileNetV2'
    path = publish(name, (), tmp_path)
    net = mmdet_backbone(path)

    class Detector(BaseModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = net

    # From the top, as a runner does: nothing that is initialised later may overwrite the weights.
    detector = Detector()
    detector.init_weights()
    loaded = mmdet_v2()
    load_pretrained(loaded, str(path))
    states = detector.backbone.state_dict(), loaded.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_strict_initializer_takes_a_prefix_and_exceptions(tmp_path):
    path = publish('torchvision MobileNetV2', (), tmp_path, prefix='module.net.')
    state = {k: v for k, v in read_tensors(path).items() if 'features.18' not in k}
    torch.save(state, tmp_path / 'part.pth')
    with pytest.raises(UserError, match=r'missing \(conv2.conv.weight'):
        mmdet_backbone(tmp_path / 'part.pth', prefix='net').init_weights()
    net = mmdet_backbone(tmp_path / 'part.pth', prefix='net', allow_missing=['conv2.'])
    nn.init.zeros_(net.conv2.conv.weight)
    net.init_weights()
    assert torch.equal(net.conv1.bn.bias, state['net.features.0.1.bias'].float())
    # What is missing is initialised as it would be without a checkpoint.
    assert net.conv2.conv.weight.std() > 0


@pytest.mark.parametrize(
    'kind',
    [
        'Pretrained',
        'PretrainedStrict',
        'PretrainedInit',
        'mmengine.Pretrained',
        PretrainedInit,
        PretrainedStrict,
    ],
)
@pytest.mark.parametrize('listed', [False, True])
def test_every_name_of_the_initialiser_loads_strictly(kind, listed, tmp_path):
    path = publish('torchvision ShuffleNetV2', (0.5,), tmp_path)
    expected = read_tensors(path)['stage4.2.branch2.4.bias'].float()
    backbone = dict(type='ShuffleNetV2', widen_factor=0.5, layout='torchvision')
    head = dict(type='LinearHead', in_channels=192, num_classes=3)
    for bad in (False, True):
        cfg = dict(type=kind, checkpoint=str(path))
        if bad:
            cfg['checkpoint'] = str(publish('megvii ShuffleNetV2', (0.5,), tmp_path))
        cfg = [dict(type='Kaiming', layer='Conv2d'), cfg] if listed else cfg
        networks = (
            ShuffleNetV2(0.5, 'torchvision', init_cfg=cfg),
            ImageClassifier({**backbone, 'init_cfg': cfg}, head),
            MODELS.build(dict(type='BackboneStageHead', backbone=backbone, init_cfg=cfg)),
        )
        for net in networks:
            if bad:
                with pytest.raises(UserError, match="layout='megvii'"):
                    net.init_weights()
                continue
            net.init_weights()
            stage = getattr(getattr(net, 'backbone', net), 'stages', [getattr(net, 'stage', None)])
            assert torch.equal(stage[-1].branches[2][1].bn.bias, expected)
    for wrong in (dict(type=kind, path='x'), dict(type=kind), dict(type=kind, checkpoint=None)):
        with pytest.raises(UserError, match=r'init_cfg of type .*: give checkpoint'):
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
    for (a, b), units in zip(outputs, references.UNITS, strict=True):
        order = references.layout_permutation(a.shape[1], units)
        assert (a[:, order] - b).abs().max() < 1e-5
        assert (a - b).abs().max() > 0.1


def test_real_mobilenet_v2_weights_compute_what_the_reference_does():
    path = facts('weights/mobilenet_v2_x1.0_backbone_torchvision-layout.pth')
    net = mmdet_v2()
    net.eval()
    report = load_pretrained(net, path)
    assert len(report.matched) == len(net.state_dict()) and not report.unexpected
    x = torch.rand(1, 3, 96, 96, dtype=torch.float64)
    tensors = relu6_tensors({key: value.double() for key, value in read_tensors(path).items()})
    with torch.no_grad():
        expected = references.torchvision_mobilenet_v2(tensors, x, flat=True)
        assert relative_difference(net.double()(x), expected) < 1e-10


@pytest.mark.parametrize('padding', ['same', 'symmetric'])
def test_real_tf_slim_weights_classify_imagenet(padding):
    cv2 = pytest.importorskip('cv2')
    path = facts('weights/mobilenet_v1_1.0_224_tf-slim.npz')
    listed = facts('data/imagenet_10/val_imagenet_labels.txt')
    labels = dict(line.rsplit(maxsplit=1) for line in listed.read_text().splitlines())
    names = list(labels)[:: len(labels) // 50]
    net = MobileNetV1(1.0, **{**SLIM, 'padding': padding}, out_indices=(3,)).eval()
    report = load_pretrained(net, path)
    assert len(report.unexpected) == 2
    tensors = read_tensors(path)
    weight, bias = (tensors[f'MobilenetV1/Logits/Conv2d_1c_1x1/{n}'] for n in ('weights', 'biases'))
    images = np.stack([cv2.imread(str(listed.parent / name))[..., ::-1] for name in names])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        scores = net(x)[0].mean((2, 3)) @ weight[0, 0] + bias
    # Class 0 is the background.
    hits = scores[:, 1:].argmax(1) == torch.tensor([int(labels[name]) for name in names])
    assert hits.float().mean() > 0.5


def test_real_squeezenet_weights_classify_imagenet():
    """Converted from Caffe: the input is Caffe's, which the report names as the exception."""
    cv2 = pytest.importorskip('cv2')
    path = facts('weights/squeezenet_1.1_torchvision-layout.pth')
    listed = facts('data/imagenet_10/val_imagenet_labels.txt')
    labels = dict(line.rsplit(maxsplit=1) for line in listed.read_text().splitlines())
    names = list(labels)[:: len(labels) // 50]
    net = SqueezeNet('1.1', padding='published', out_indices=(2,)).eval()
    report = load_pretrained(net, path)
    assert report.family == 'torchvision SqueezeNet 1.1'
    assert report.unexpected == ['classifier.1.bias', 'classifier.1.weight']
    tensors = read_tensors(path)
    images = np.stack([cv2.imread(str(listed.parent / name)) for name in names])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() - torch.tensor(
        [104.0, 117.0, 123.0]
    ).view(3, 1, 1)
    with torch.no_grad():
        scores = F.conv2d(net(x)[0], *(tensors[f'classifier.1.{n}'] for n in ('weight', 'bias')))
    hits = scores.relu().mean((2, 3)).argmax(1) == torch.tensor([int(labels[n]) for n in names])
    assert hits.float().mean() > 0.5
