"""Classifier, heads, metric and transforms against what they stand for."""

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS, MODELS, TRANSFORMS
from torch.nn import functional as F

from mmshuffle.classification import ConvHead, HiddenLayersHead, ImageClassifier, LinearHead
from tests.conftest import refused

BACKBONE = dict(type='ShuffleNetV2', widen_factor=0.5, out_indices=(3,))


def classifier(init_cfg: dict | None = None, **head) -> ImageClassifier:
    cfg = dict(
        type='ImageClassifier',
        backbone=BACKBONE,
        head={**dict(type='LinearHead', in_channels=192, num_classes=5), **head},
        data_preprocessor=dict(
            type='BatchNormalizer', mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], bgr_to_rgb=True
        ),
        init_cfg=init_cfg,
    )
    model = MODELS.build(cfg)
    model.init_weights()
    return model.double()


def test_the_loss_is_the_cross_entropy_with_smoothed_labels_or_soft_targets():
    model = classifier(label_smoothing=0.1).eval()
    model.head.fc.weight.data *= 1000  # scores that differ
    x, labels = torch.rand(3, 3, 64, 64).double(), torch.tensor([0, 4, 2])
    hard = F.one_hot(labels, 5).double()
    for given, target in (labels, hard), (hard, hard), ((soft := 0.3 * hard + 0.7 / 5), soft):
        expected = -((0.9 * target + 0.1 / 5) * model(x).log_softmax(1)).sum(1).mean()
        loss = model(x, given, mode='loss')['loss'].item()
        assert loss == pytest.approx(expected.item()) and loss > 0.1


def test_prediction_gives_scores_and_labels_to_the_metric():
    model = classifier().eval()
    x, labels = torch.rand(4, 3, 64, 64).double(), torch.tensor([0, 1, 2, 3])
    predicted = model(x, labels, mode='predict')
    assert torch.equal(torch.stack([sample['scores'] for sample in predicted]), model(x))
    assert [int(sample['gt_label']) for sample in predicted] == [0, 1, 2, 3]
    assert 'gt_label' not in model(x, mode='predict')[0]
    with pytest.raises(ValueError, match="give 'tensor', 'loss' or 'predict'"):
        model(x, mode='train')


def test_accuracy_counts_the_labels_among_the_best():
    scores = torch.tensor([[0.1, 0.5, 0.4], [0.9, 0.05, 0.05], [0.2, 0.3, 0.5], [0.6, 0.1, 0.3]])
    metric = METRICS.build(dict(type='Accuracy', topk=(1, 2)))
    labels = torch.tensor([1, 2, 0, 2])
    for begin in (0, 2):
        part = slice(begin, begin + 2)
        samples = [dict(scores=s, gt_label=y) for s, y in zip(scores[part], labels[part])]
        metric.process({}, samples)
    figures = metric.evaluate(4)
    assert figures == {'accuracy/top1': 25.0, 'accuracy/top2': 50.0}


@pytest.mark.parametrize('label', [3, -1])
def test_labels_of_no_class_are_refused(label):
    sample = dict(scores=torch.rand(3), gt_label=torch.tensor(label))
    with refused(f'labels from {label} to {label} for scores of 3 classes'):
        METRICS.build(dict(type='Accuracy', topk=(1,))).process({}, [sample])


def test_dropout_acts_in_training_only():
    head = LinearHead(6, 3, dropout=0.5)
    features = (torch.rand(1, 6, 4, 4) + 1,)
    assert torch.equal(head.eval()(features), head(features))
    head.train()
    assert len({head(features)[0, 0].item() for _ in range(20)}) > 1


def test_conv_head_averages_rectified_scores():
    head = ConvHead(6, 3).eval()
    x = torch.randn(2, 6, 5, 4)
    weight, bias = head.fc.weight[:, :, 0, 0], head.fc.bias
    pixels = torch.einsum('nchw,kc->nkhw', x, weight) + bias[:, None, None]
    assert torch.allclose(head((x,)), pixels.clamp(min=0).mean((2, 3)), atol=1e-6)


def test_hidden_layers_head_is_a_perceptron_on_the_pooled_map():
    head = HiddenLayersHead(2, 3, pool_size=2, hidden_channels=(7,)).eval()
    x = torch.randn(2, 2, 4, 6)
    pooled = torch.stack([x[:, :, :2], x[:, :, 2:]], 2).unflatten(4, (2, 3)).mean((3, 5))
    hidden = (pooled.flatten(1) @ head.hidden[0].weight.t() + head.hidden[0].bias).clamp(min=0)
    assert torch.allclose(head((x,)), hidden @ head.fc.weight.t() + head.fc.bias, atol=1e-6)


@pytest.mark.parametrize(
    ('name', 'value'), [('num_classes', 0), ('num_classes', 2.0), ('label_smoothing', 1.0)]
)
def test_heads_refuse_what_makes_no_sense(name, value):
    with pytest.raises(ValueError, match=f'{name}={value}'):
        LinearHead(4, **{'num_classes': 2, name: value})


@pytest.mark.parametrize('kind', ['LinearHead', 'ConvHead', 'HiddenLayersHead'])
def test_heads_are_initialised_as_init_cfg_says(kind):
    init_cfg = dict(type='Constant', layer=['Linear', 'Conv2d'], val=3.0, bias=2.0)
    plain, given = (
        MODELS.build(dict(type=kind, in_channels=64, num_classes=90, init_cfg=cfg))
        for cfg in (None, init_cfg)
    )
    plain.init_weights()
    given.init_weights()
    assert plain.fc.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert plain.fc.bias.eq(0).all() and given.fc.bias.eq(2).all() and given.fc.weight.eq(3).all()


def test_pretrained_weights_of_the_whole_model_come_last(tmp_path):
    model = classifier()
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    loaded = classifier(dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth')))
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def jitter(image: np.ndarray, **strengths: float) -> np.ndarray:
    none = dict(brightness=0.0, contrast=0.0, saturation=0.0)
    transform = TRANSFORMS.build(dict(type='ColorJitter', **{**none, **strengths}))
    return transform(dict(img=image))['img']


def test_color_jitter_blends_as_its_sources_say(monkeypatch):
    image = np.random.default_rng(0).integers(60, 180, (16, 16, 3), dtype=np.uint8)
    grey = image @ np.array([0.114, 0.587, 0.299])
    monkeypatch.setattr(np.random, 'uniform', lambda low, high: 0.25 * low + 0.75 * high)
    factor = 1.2  # a quarter from the upper end of 0.6 to 1.4
    for name, other in (
        ('brightness', 0.0),
        ('contrast', grey.mean()),
        ('saturation', grey[..., None]),
    ):
        expected = np.clip(factor * image + (1 - factor) * other, 0, 255)
        changed = jitter(image, **{name: 0.4})
        assert changed.dtype == np.uint8
        assert np.abs(changed - expected).max() <= 1.01, name
    assert np.array_equal(jitter(image), image)


def test_color_jitter_draws_the_order(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    monkeypatch.setattr(np.random, 'uniform', lambda low, high: high)
    results = {jitter(image, brightness=0.4, contrast=0.4).tobytes() for _ in range(20)}
    assert len(results) == 2


def test_packing_keeps_bytes_and_channels():
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    packed = TRANSFORMS.build(dict(type='PackClassInputs'))(dict(img=image[:, ::-1], gt_label=3))
    assert packed['inputs'].dtype == torch.uint8 and packed['inputs'].is_contiguous()
    assert np.array_equal(packed['inputs'].numpy(), image[:, ::-1].transpose(2, 0, 1))
    assert int(packed['data_samples']) == 3
