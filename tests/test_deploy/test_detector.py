"""A whole detector as one graph: what MMDetection predicts, without MMDetection."""

import copy
import functools
import itertools
import json

import cv2
import numpy as np
import pytest
import torch
from mmcv.ops import RoIAlign, nms
from mmdet.models import CascadeRoIHead, EmbeddingRPNHead, YOLOXHead
from mmdet.models.task_modules import LegacyDeltaXYWHBBoxCoder
from mmdet.registry import TRANSFORMS
from torch import nn

from mmshuffle.deploy import FORMATS, board
from mmshuffle.deploy.detection_ops import nms_mask, roi_align_levels
from mmshuffle.deploy.detector import picture_facts
from mmshuffle.deploy.detector_graph import TwoStageGraph
from mmshuffle.deploy.one_stage import OneStageGraph, RawGraph
from mmshuffle.deploy.part import detection_difference, pad_detections
from mmshuffle.engine.network import load_model, load_model_config, predict
from tests.conftest import REPO, facts, refused
from tests.test_deploy.plain import Of

FPN = REPO / 'configs/finetune/faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e_bccd.py'
C4 = REPO / 'configs/faster_rcnn/faster-rcnn_shufflenetv1-x1.0-g3_c4-300_1x_coco.py'


def in_onnx_runtime(module: nn.Module, inputs: torch.Tensor, folder) -> list[np.ndarray]:
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    onnx, paths = FORMATS['onnx'], [folder / 'op.onnx']
    onnx.write(module.eval(), inputs, paths, ['y'], False)
    return onnx.load(paths)(inputs.numpy())


def spread_boxes(*shape: int) -> torch.Tensor:
    """Boxes, (*shape, 4), of 2 to 40 pixels in an image of 100 by 100, many of which overlap."""
    corner = torch.rand(*shape, 2) * 60
    return torch.cat((corner, corner + 2 + torch.rand(*shape, 2) * 38), -1)


def test_nms_keeps_what_mmcv_keeps_in_pytorch_and_onnx(tmp_path):
    boxes, scores = spread_boxes(3, 60), torch.rand(3, 60)
    expected = torch.zeros(3, 60)
    for group in range(3):
        _, kept = nms(boxes[group], scores[group], 0.4, score_threshold=0.3)
        expected[group, kept] = 1
    assert 20 < expected.sum() < 150
    x = torch.cat((boxes, scores[..., None]), -1)
    suppress = Of(lambda x: (nms_mask(x[..., :4], x[..., 4], 0.4, 0.3),))
    assert torch.equal(suppress(x)[0], expected)
    assert np.array_equal(in_onnx_runtime(suppress, x, tmp_path)[0], expected.numpy())


@pytest.mark.parametrize(('sampling', 'aligned'), list(itertools.product((0, 2), (True, False))))
def test_boxes_are_pooled_from_their_levels_in_pytorch_and_onnx(sampling, aligned, tmp_path):
    """Level 1 has no box: a graph must bear that, because images may be so."""
    features = [torch.randn(1, 4, 50, 50), torch.randn(1, 4, 25, 25), torch.randn(1, 4, 13, 13)]
    levels = torch.tensor([2, 0, 0, 2, 0, 2, 2])
    scales = [0.5, 0.25, 0.125]

    def pool(boxes):
        maps = [level + 0 for level in features]
        return (roi_align_levels(maps, boxes, levels, scales, [3, 2], sampling, aligned),)

    boxes = spread_boxes(7)
    one_by_one = [
        RoIAlign((3, 2), scales[level], sampling, 'avg', aligned)(
            features[level], torch.cat((torch.zeros(1), box))[None]
        )
        for level, box in zip(levels.tolist(), boxes, strict=True)
    ]
    expected = torch.cat(one_by_one)
    assert torch.equal(pool(boxes)[0], expected)
    found = in_onnx_runtime(Of(pool), boxes, tmp_path)[0]
    assert np.abs(found - expected.numpy()).max() < 1e-5


@pytest.fixture(scope='module')
def detector():
    return load_model(load_model_config(str(FPN)))


def pictures(count: int, shape: tuple[int, int]) -> torch.Tensor:
    """Real images, (count, 3, H, W), BGR."""
    paths = sorted(facts('data/bccd/JPEGImages').iterdir())[:count]
    images = [cv2.resize(cv2.imread(str(path)), shape[::-1]) for path in paths]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()


def predicted(detector: nn.Module, image: torch.Tensor, rows: int) -> list[np.ndarray]:
    """What MMDetection predicts, of which some is sure."""
    boxes, scores, labels = pad_detections(predict(detector, image), rows)
    assert (scores > 0).sum() >= 20
    return [output.numpy() for output in (boxes, scores, labels)]


@pytest.mark.parametrize(
    ('config', 'shape', 'options'),
    [
        (FPN, (320, 427), {}),  # 427 is no multiple of 32
        (FPN, (96, 64), {}),  # fewer anchors than the RPN may keep
        (
            # One regression for all classes, a least size of proposals, clamped centres, no limits.
            FPN,
            (96, 128),
            {
                'model.roi_head.bbox_head.reg_class_agnostic': True,
                'model.test_cfg.rpn.min_bbox_size': 24,
                'model.test_cfg.rpn.nms_pre': -1,
                'model.test_cfg.rcnn.max_per_img': -1,
                'model.test_cfg.rcnn.score_thr': 0.2,
                'model.rpn_head.bbox_coder.add_ctr_clamp': True,
                'model.rpn_head.bbox_coder.ctr_clamp': 4,
                'model.roi_head.bbox_head.bbox_coder.clip_border': False,
            },
        ),
        (C4, (96, 128), {'model.test_cfg.rpn.max_per_img': 60}),
    ],
    ids=['padded', 'few anchors', 'settings', 'C4'],
)
def test_the_graph_predicts_what_mmdetection_predicts(config, shape, options):
    detector = load_model(load_model_config(str(config), options))
    graph = TwoStageGraph(detector, shape).eval()
    for image in pictures(2, shape):
        with torch.no_grad():
            found = [output.numpy() for output in graph(image[None])]
        assert detection_difference(predicted(detector, image, graph.rows), found) < 1e-4
        empty = found[1] == 0
        assert (found[2][empty] == -1).all() and (found[0][empty] == 0).all()
        assert (np.diff(found[1]) <= 0).all()


def test_detections_are_compared_whatever_their_order():
    boxes = spread_boxes(100).numpy()
    scores = np.linspace(0.9, 0.1, 100, dtype=np.float32)
    labels = np.arange(100) % 3
    whole = (boxes, scores, labels)
    order = [0, 1, 2, 4, 3, *range(5, 100)]
    assert detection_difference(whole, tuple(part[order] for part in whole)) == 0
    two, three = (np.where(np.arange(100) < wrong, 7, labels) for wrong in (2, 3))
    assert detection_difference(whole, (boxes, scores, two)) == 0
    assert detection_difference(whole, (boxes, scores, three)) > 0.05
    shifted = boxes + np.float32(boxes.max() * 0.01)
    assert detection_difference(whole, (shifted, scores, labels)) > 0.005
    lower = (boxes, scores - np.float32(0.02), labels)
    assert detection_difference(whole, lower) == pytest.approx(0.02, rel=1e-3)
    assert detection_difference(whole, tuple(np.repeat(p, 2, axis=0) for p in whole)) == np.inf
    # Rows without a detection do not count, but a side that has none does.
    none = (boxes * 0, scores * 0, labels * 0 - 1)
    assert detection_difference(none, none) == 0
    assert detection_difference(whole, none) == np.inf


RETINANET = 'retinanet/retinanet_shufflenetv2-x0.5_fpn_1x_coco'
ONE_STAGE = {
    'gfl/gfl_shufflenetv2-x0.5_pafpn-320_8xb24-120e_coco': (96, 120),
    RETINANET: (96, 128),
    'rtmdet/rtmdet-tiny_shufflenetv2-x0.5_8xb24-120e_coco': (96, 120),
    'ssd/ssdlite_shufflenetv2-x0.5_8xb24-120e_coco': (320, 320),
    'ATSSHead': (96, 120),
    'FCOSHead': (96, 120),
}
# Heads that no config here has.
HEAD = dict(_delete_=True, num_classes=80, in_channels=256, stacked_convs=1, feat_channels=64)
STRIDES = [8, 16, 32, 64, 128]
ANCHORS = dict(type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1)
OTHER_HEADS = {
    'ATSSHead': dict(anchor_generator=dict(ANCHORS, strides=STRIDES), **HEAD),
    'FCOSHead': dict(strides=STRIDES, norm_on_bbox=True, **HEAD),
}
OTHER_SETTINGS = {
    'model.test_cfg.min_bbox_size': 0.5,
    'model.test_cfg.nms_pre': 300,
    'model.test_cfg.max_per_img': 25,
    'model.test_cfg.score_thr': 0.3,
}


def one_stage(name: str, **options) -> nn.Module:
    """A detector with random weights, of a config or of the RetinaNet with another head."""
    if name in OTHER_HEADS:
        options['model.bbox_head'] = dict(type=name, **OTHER_HEADS[name])
        name = RETINANET
    return load_model(load_model_config(str(REPO / 'configs' / f'{name}.py'), options))


@pytest.mark.parametrize('name', ONE_STAGE)
@pytest.mark.parametrize('options', [{}, OTHER_SETTINGS], ids=['own', 'other'])
def test_one_stage_is_decoded_as_mmdetection_does_in_a_graph_and_in_numpy(name, options):
    detector, shape = one_stage(name, **options), ONE_STAGE[name]
    whole, raw = OneStageGraph(detector, shape).eval(), RawGraph(detector, shape).eval()
    facts = json.loads(json.dumps(raw.facts))
    for image in pictures(2, shape):
        expected = predicted(detector, image, whole.rows)
        with torch.no_grad():
            found = [output.numpy() for output in whole(image[None])]
            outputs = [output.numpy() for output in raw(image[None])]
        assert detection_difference(expected, found) < 1e-4
        assert detection_difference(expected, board.decode(outputs, facts, shape)) < 1e-4


@pytest.mark.parametrize(
    ('size', 'keep_ratio'),
    [((480, 640), False), *(((h, w), True) for h, w in ((480, 640), (33, 200), (9, 9), (1, 9)))],
)
def test_the_board_prepares_pictures_as_the_test_pipeline_does(size, keep_ratio):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    step = TRANSFORMS.build(dict(type='mmdet.Resize', scale=(427, 320), keep_ratio=keep_ratio))
    expected = step(dict(img=picture))
    facts = dict(shape=[320, 427], keep_ratio=keep_ratio, fill=[1, 2, 3], head=None)
    image, (height, width) = board.prepare(picture, facts)
    assert image.shape == (1, 3, 320, 427) and expected['img'].shape[:2] == (height, width)
    inside = image[0, :, :height, :width].transpose(1, 2, 0)
    assert np.abs(inside - expected['img']).max() <= 1
    assert (image[0, :, height:] == np.array([[[1]], [[2]], [[3]]])).all()
    # Boxes come back to the picture, and end where it ends.
    box = np.array([[width / 4, 0, 500, height / 2], [0, 0, 0, 0]], np.float32)
    found = board.finish((box, np.array([0.5, 0]), np.array([2, -1])), facts, (height, width), size)
    np.testing.assert_allclose(found[0], [[size[1] / 4, 0, size[1], size[0] / 2]], rtol=1e-5)
    assert found[2].tolist() == [2]


@pytest.mark.parametrize('channels', [3, 4])
def test_the_board_reads_bmp_files(channels, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, channels), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'a.bmp'), picture)
    assert np.array_equal(board.read_bmp(tmp_path / 'a.bmp'), picture[..., :3])
    data = bytearray((tmp_path / 'a.bmp').read_bytes())
    data[22:26] = (-7).to_bytes(4, 'little', signed=True)  # the first row on top
    (tmp_path / 'b.bmp').write_bytes(data)
    assert np.array_equal(board.read_bmp(tmp_path / 'b.bmp'), picture[::-1, :, :3])
    for damaged in (b'', b'BM', data[:-1], b'PK' + data[2:], data[:28] + b'\x08' + data[29:]):
        (tmp_path / 'c.bmp').write_bytes(damaged)
        with pytest.raises(board.Wrong, match='is no uncompressed BMP'):
            board.read_bmp(tmp_path / 'c.bmp')


@pytest.mark.parametrize(
    ('steps', 'keep_ratio', 'fill'),
    [
        ([dict(type='Resize', scale=(9, 9), keep_ratio=True)], True, [103.53, 116.28, 123.675]),
        ([dict(type='Resize', scale=(9, 9)), dict(type='Pad', pad_val=114)], False, [114.0] * 3),
        ([dict(type='mmdet.Pad', pad_val=dict(img=(1, 2, 3)))], False, [1.0, 2.0, 3.0]),
        ([dict(type='CenterCrop', crop_size=9)], None, None),
    ],
)
def test_the_board_is_told_what_the_test_pipeline_does(detector, steps, keep_ratio, fill):
    cfg = load_model_config(str(FPN))
    pipeline = [dict(type='LoadImageFromFile'), *steps, dict(type='PackDetInputs')]
    cfg.test_dataloader.dataset.pipeline = pipeline
    if fill is None:
        with refused('has a step CenterCrop'):
            picture_facts(cfg, detector)
        return
    given = picture_facts(cfg, detector)
    assert given['keep_ratio'] is keep_ratio and given['fill'] == pytest.approx(fill, abs=1e-2)
    assert given['classes'] == ['Platelets', 'RBC', 'WBC']


EXTRACTOR = 'roi_head.bbox_roi_extractor'


def put(path, value):
    """A change of an attribute of the detector."""
    *parents, name = path.split('.')
    return lambda detector: setattr(functools.reduce(getattr, parents, detector), name, value)


REFUSED = {
    TwoStageGraph: [
        (put('test_cfg.rcnn.nms.type', 'soft_nms'), 'with another NMS'),
        (put('test_cfg.rpn.nms.class_agnostic', True), 'with another NMS'),
        (put(f'{EXTRACTOR}.roi_layers.0.pool_mode', 'max'), 'with RoIAlign of the maximum'),
        (put('rpn_head.bbox_coder.__class__', LegacyDeltaXYWHBBoxCoder), 'with LegacyDelta'),
        (put('rpn_head.use_sigmoid_cls', False), 'with an RPN with softmax'),
        (put('rpn_head.__class__', EmbeddingRPNHead), 'with EmbeddingRPNHead'),
        (put('roi_head.__class__', CascadeRoIHead), 'with CascadeRoIHead'),
        (lambda detector: delattr(detector, 'roi_head'), 'FasterRCNN is not a two-stage detector'),
    ],
    RawGraph: [
        (put('bbox_head.test_cfg.nms.type', 'soft_nms'), 'with another NMS'),
        (put('bbox_head.test_cfg.nms', None), 'with another NMS'),
        (put('bbox_head.bbox_coder.__class__', LegacyDeltaXYWHBBoxCoder), 'with LegacyDelta'),
        (put('bbox_head.__class__', YOLOXHead), 'with YOLOXHead cannot be exported, whose predict'),
        (lambda detector: delattr(detector, 'bbox_head'), 'is no one-stage detector'),
    ],
}


@pytest.mark.parametrize('graph', REFUSED)
def test_what_a_graph_does_not_know_is_refused(graph, detector):
    plain = detector if graph is TwoStageGraph else one_stage(RETINANET)
    for change, message in REFUSED[graph]:
        altered = copy.deepcopy(plain)
        change(altered)
        with refused(message):
            graph(altered, (96, 64))
