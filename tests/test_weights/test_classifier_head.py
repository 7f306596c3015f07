"""A published classifier fills an image classifier, its last layer included."""

import pytest
import torch

from mmshuffle.classification import ImageClassifier, LinearHead
from mmshuffle.weights import load_pretrained, read_tensors
from tests.conftest import refused
from tests.test_weights.test_families import FAMILIES, linear, publish, relative_difference, write

CLASSES = 7


def classifier_of(network, num_classes: int = CLASSES, head: dict | None = None) -> ImageClassifier:
    network.double().eval()
    with torch.no_grad():
        channels = network(torch.rand(1, 3, 64, 64).double())[-1].shape[1]
    head = dict(head or dict(type='LinearHead'), in_channels=channels, num_classes=num_classes)
    model = ImageClassifier(dict(type='SqueezeNet'), head)
    model.backbone = network
    return model.double().eval()


@pytest.mark.parametrize(
    ('name', 'variant', 'head', 'layers'),
    [
        ('torchvision SqueezeNet 1.1', ('1.1',), dict(type='ConvHead'), ['fc']),
        (
            'torchvision AlexNet',
            (),
            dict(type='HiddenLayersHead', hidden_channels=(16, 8)),
            ['hidden.0', 'hidden.1', 'fc'],
        ),
    ],
)
def test_convolutions_and_hidden_layers_are_placed(name, variant, head, layers, tmp_path):
    model = classifier_of(FAMILIES[name].build(*variant), head=head)
    state, own = read_tensors(publish(name, variant, tmp_path)), model.head.state_dict()
    pairs = dict(zip(FAMILIES[name].classifier, linear(*layers), strict=True))
    state |= {theirs: torch.rand_like(own[ours]) for theirs, ours in pairs.items()}
    path = write(state, tmp_path, numpy=False)
    report = load_pretrained(model, str(path))
    assert report.family == name and not report.unexpected
    placed = model.head.state_dict()
    assert all(torch.equal(placed[ours], state[theirs]) for theirs, ours in pairs.items())


ONE_LAYER = [n for n, f in FAMILIES.items() if len(f.classifier) in (1, 2) and 'Squeeze' not in n]


@pytest.mark.parametrize('name', ONE_LAYER)
def test_scores_are_those_of_the_published_classifier(name, tmp_path):
    family = FAMILIES[name]
    variant, drawn = family.variants[0], family.tensors()
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        features = family.reference(drawn, x, *variant)[-1].mean((2, 3))
    slim = name.startswith('TF-slim')
    rows = CLASSES + slim  # TF-slim's class 0 is the background
    weight = torch.rand(rows, features.shape[1], dtype=torch.float64)
    bias = torch.rand(rows).double() * (len(family.classifier) - 1)  # megvii's have none
    published = (weight.t()[None, None] if slim else weight, bias)
    state = drawn.state | dict(zip(family.classifier, published, strict=False))
    path = write(state, tmp_path, numpy=slim)
    model = classifier_of(family.build(*variant))
    model.head.fc.bias.data.fill_(9.0)
    report = load_pretrained(model, str(path))
    assert report.family == name and not report.unexpected
    with torch.no_grad():
        expected = (features @ weight.t() + bias)[:, slim:]
        assert relative_difference([model(x)], [expected]) < 1e-10
    if slim:
        model = classifier_of(family.build(*variant), rows)
        load_pretrained(model, str(path))
        with torch.no_grad():
            assert relative_difference([model(x)], [features @ weight.t() + bias]) < 1e-10


def test_a_classifier_of_other_classes_is_refused(tmp_path):
    name = 'torchvision ShuffleNetV2'
    state = read_tensors(publish(name, (0.5,), tmp_path))
    path = tmp_path / 'of_1000.pth'
    torch.save(state | {'fc.weight': torch.rand(1000, 1024), 'fc.bias': torch.rand(1000)}, path)
    model = classifier_of(FAMILIES[name].build(0.5))
    before = model.backbone.state_dict()['stages.1.branches.0.0.conv.weight'].clone()
    with refused(r'head.fc.weight \(1000, 1024\) for \(7, 1024\)'):
        load_pretrained(model, str(path))
    assert torch.equal(model.backbone.state_dict()['stages.1.branches.0.0.conv.weight'], before)
    load_pretrained(model, str(path), allow_missing=['head.'])
    assert not torch.equal(model.backbone.state_dict()['stages.1.branches.0.0.conv.weight'], before)
    assert isinstance(model.head, LinearHead) and model.head.fc.weight.shape == (7, 1024)
