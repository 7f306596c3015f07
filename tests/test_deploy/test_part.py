"""Parts of a model, with and without the normalisation in front of them."""

import copy
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.model import ImgDataPreprocessor
from torch import nn

from mmshuffle.deploy import export, shuffle_free
from mmshuffle.deploy.export import ExportReport
from mmshuffle.deploy.normalise import Normalise
from mmshuffle.deploy.part import Part, cut
from mmshuffle.engine.network import load_model, load_model_config
from tests.conftest import REPO, refused

CLASSIFIER = REPO / 'configs/imagenet/shufflenet_v2/shufflenetv2-x0.5_8xb128-300k_imagenet.py'
DETECTOR = REPO / 'configs/finetune/faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e_bccd.py'
SHAPE = (64, 96)


def build(path, checkpoint=None, part=None, **options):
    return load_model(load_model_config(str(path), options), checkpoint, part)


@pytest.fixture(scope='module')
def classifier():
    return build(CLASSIFIER)


@pytest.fixture(scope='module')
def detector():
    return build(DETECTOR)


def part_of(model: nn.Module, name: str, rewrite=copy.deepcopy, **options) -> Part:
    return cut(model, name, SHAPE, rewrite, **options)


def write(part: Part, folder: Path) -> ExportReport:
    shape = (1, 3, *SHAPE)
    return export(part.module, folder / 'net', 'torchscript', shape, **part.options)


def run(module: nn.Module, images: torch.Tensor):
    with torch.no_grad():
        return module(images)


@pytest.mark.parametrize(
    'settings', [dict(mean=[128.0], std=[64.0], rgb_to_bgr=True), dict(bgr_to_rgb=True)]
)
def test_one_convolution_normalises_as_mmengine_does(settings):
    preprocessor = ImgDataPreprocessor(**settings)
    image = torch.randint(0, 256, (3, 20, 30)).float()
    expected = preprocessor(dict(inputs=[image]))['inputs'][0]
    assert torch.allclose(run(Normalise.of(preprocessor), image[None])[0], expected, atol=1e-5)
    assert Normalise.of(ImgDataPreprocessor()) is None


def test_a_classifier_takes_images_as_they_are_loaded(classifier):
    part = part_of(classifier, 'classifier')
    image = torch.randint(0, 256, (1, 3, *SHAPE)).float()
    given = classifier.data_preprocessor(dict(inputs=image.clone()))['inputs']
    assert torch.allclose(run(part.module, image), run(classifier, given), atol=1e-3)
    assert part.input == 'BGR image in 0 to 255'
    plain = part_of(classifier, 'classifier', normalise=False)
    assert torch.equal(run(plain.module, given), run(classifier, given))
    assert plain.input == 'normalised image'


def test_backbone_and_neck_take_what_the_detector_gives_them(detector):
    image = torch.randn(1, 3, *SHAPE)
    neck = part_of(detector, 'neck')
    for found, level in zip(run(neck.module, image), detector.extract_feat(image), strict=True):
        assert torch.equal(found, level)
    assert neck.options['output_names'] == ['level0', 'level1', 'level2', 'level3', 'level4']
    picture = torch.randint(0, 256, (1, 3, *SHAPE)).float()
    backbone = part_of(detector, 'backbone', picture=picture)
    found = run(backbone.module, image)
    expected = run(detector.backbone, image)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert backbone.options['output_names'] == ['stage0', 'stage1', 'stage2', 'stage3']
    # A picture is normalised for a part that takes it so.
    given = detector.data_preprocessor(dict(inputs=[picture[0]]))['inputs']
    assert torch.allclose(backbone.options['images'], given, atol=1e-5)


def test_a_neck_that_does_not_tell_its_number_of_outputs_is_a_part(detector, tmp_path):
    other = copy.deepcopy(detector)
    channels = list(detector.backbone.out_channels)
    other.neck = MODELS.build(dict(type='ChannelMapper', in_channels=channels, out_channels=8))
    done = write(part_of(other, 'neck', shuffle_free), tmp_path)
    assert done.output_names == ('output0', 'output1', 'output2', 'output3')


def test_a_detector_that_detects_nothing_is_pointed_out(detector, tmp_path):
    blind = copy.deepcopy(detector)
    blind.roi_head.bbox_head.fc_cls.weight.data.zero_()
    blind.roi_head.bbox_head.fc_cls.bias.data[-1] = 20  # the background
    for net, conclusive in ((detector, True), (blind, False)):
        assert write(part_of(net, 'detector'), tmp_path).conclusive is conclusive


def test_parts_that_a_model_lacks_are_refused(classifier, detector):
    with refused('ImageClassifier has no neck'):
        part_of(classifier, 'neck')
    with refused('FasterRCNN is no classifier'):
        part_of(detector, 'classifier')
    with refused('ImageClassifier is not a two-stage detector'):
        part_of(classifier, 'detector')
    with refused('leave --no-normalise out'):
        part_of(detector, 'detector', normalise=False)
