"""A published classifier fills an image classifier, its last layer included."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS

from mmshuffle.classification import ImageClassifier, LinearHead
from mmshuffle.errors import UserError
from mmshuffle.weights import load_pretrained
from tests.test_weights.test_families import FAMILIES, relative_difference

CLASSES = 7
# Published name of the last layer, and the variant to try.
LAYERS = {
    'torchvision ShuffleNetV2': ('fc', (0.5,)),
    'MMPretrain ShuffleNetV2': ('head.fc', (0.5,)),
    'MMPretrain ShuffleNetV1': ('head.fc', (0.5, 3)),
    'megvii ShuffleNetV1': ('classifier.0', (0.5, 3)),
    'megvii ShuffleNetV2': ('classifier.0', (0.5,)),
    'TF-slim MobileNetV1': ('MobilenetV1/Logits/Conv2d_1c_1x1', (0.25,)),
    'timm MobileNetV1': ('classifier', (1.0,)),
    'RetinaFace MobileNetV1': ('fc', (0.25,)),
    'torchvision MobileNetV2': ('classifier.1', ()),
}


@MODELS.register_module()
class Given(torch.nn.Module):
    """Stands for a backbone's config where the backbone exists already."""

    def __new__(cls, network):
        return network


def classifier_of(backbone, num_classes: int = CLASSES) -> ImageClassifier:
    backbone.double().eval()
    with torch.no_grad():
        channels = backbone(torch.rand(1, 3, 64, 64, dtype=torch.float64))[-1].shape[1]
    head = dict(type='LinearHead', in_channels=channels, num_classes=num_classes)
    return ImageClassifier(dict(type='Given', network=backbone), head).double().eval()


def test_squeezenets_convolution_and_alexnets_three_layers_are_placed(tmp_path):
    for backbone, head, layers in (
        (
            dict(type='SqueezeNet', version='1.1', padding='published', out_indices=(2,)),
            dict(type='ConvHead', in_channels=512, num_classes=CLASSES),
            {'classifier.1': 'fc'},
        ),
        (
            dict(type='AlexNet', version='torchvision', padding='published', out_indices=(3,)),
            dict(type='HiddenLayersHead', in_channels=256, num_classes=CLASSES),
            {'classifier.1': 'hidden.0', 'classifier.4': 'hidden.1', 'classifier.6': 'fc'},
        ),
    ):
        model = ImageClassifier(backbone, head)
        name = {'SqueezeNet': 'torchvision SqueezeNet 1.1'}.get(
            backbone['type'], 'torchvision AlexNet'
        )
        reference, tensors, *_ = FAMILIES[name]
        drawn = tensors()
        with torch.no_grad():
            reference(drawn, torch.rand(1, 3, 64, 64).double(), *name.split()[2:])
        drawn = {k: v for k, v in drawn.state.items() if not k.startswith('classifier.')}
        own = model.head.state_dict()
        state = {
            f'{theirs}.{leaf}': torch.rand_like(own[f'{ours}.{leaf}'])
            for theirs, ours in layers.items()
            for leaf in ('weight', 'bias')
        }
        path = tmp_path / f'{backbone["type"]}.pth'
        torch.save({**drawn, **state}, path)
        report = load_pretrained(model, str(path))
        assert report.family == name and not report.unexpected
        for theirs, ours in layers.items():
            for leaf in ('weight', 'bias'):
                placed = model.head.state_dict()[f'{ours}.{leaf}']
                assert torch.equal(placed, state[f'{theirs}.{leaf}'])


@pytest.mark.parametrize('name', LAYERS)
def test_scores_are_those_of_the_published_classifier(name, tmp_path):
    layer, variant = LAYERS[name]
    reference, tensors, build, *_ = FAMILIES[name]
    drawn = tensors()
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    slim, megvii = name.startswith('TF-slim'), name.startswith('megvii')
    with torch.no_grad():
        features = reference(drawn, x, *variant)[-1].mean((2, 3))
    rows = CLASSES + slim  # TF-slim's class 0 is the background
    weight = torch.rand(rows, features.shape[1], dtype=torch.float64)
    bias = torch.zeros(rows).double() if megvii else torch.rand(rows).double()
    if slim:
        state = {f'{layer}/weights': weight.t()[None, None], f'{layer}/biases': bias}
        path = tmp_path / 'published.npz'
        np.savez(path, **{k: v.numpy() for k, v in {**drawn.state, **state}.items()})
    else:
        state = {f'{layer}.weight': weight}
        if not megvii:
            state[f'{layer}.bias'] = bias
        path = tmp_path / 'published.pth'
        torch.save({'state_dict': {**drawn.state, **state}}, path)
    model = classifier_of(build(*variant))
    model.head.fc.bias.data.fill_(9.0)
    report = load_pretrained(model, str(path))
    assert report.family == name and not report.unexpected
    with torch.no_grad():
        expected = (features @ weight.t() + bias)[:, slim:]
        assert relative_difference([model(x)], [expected]) < 1e-10
    if slim:
        model = classifier_of(build(*variant), rows)
        load_pretrained(model, str(path))
        with torch.no_grad():
            assert relative_difference([model(x)], [features @ weight.t() + bias]) < 1e-10


def test_a_classifier_of_other_classes_is_refused(tmp_path):
    reference, tensors, build, *_ = FAMILIES['torchvision ShuffleNetV2']
    drawn = tensors()
    with torch.no_grad():
        width = reference(drawn, torch.rand(1, 3, 32, 32).double(), 0.5)[-1].shape[1]
    path = tmp_path / 'published.pth'
    state = {'fc.weight': torch.rand(1000, width), 'fc.bias': torch.rand(1000)}
    torch.save({**drawn.state, **state}, path)
    model = classifier_of(build(0.5))
    before = model.backbone.state_dict()['stages.1.branches.0.0.conv.weight'].clone()
    with pytest.raises(UserError, match=r'head.fc.weight \(1000, 1024\) for \(7, 1024\)'):
        load_pretrained(model, str(path))
    assert torch.equal(model.backbone.state_dict()['stages.1.branches.0.0.conv.weight'], before)
    load_pretrained(model, str(path), allow_missing=['head.'])
    assert not torch.equal(model.backbone.state_dict()['stages.1.branches.0.0.conv.weight'], before)
    assert isinstance(model.head, LinearHead) and model.head.fc.weight.shape == (7, width)
