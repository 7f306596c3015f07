"""Networks without shuffles compute what the plain ones do, with the operations they promise."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import Tensor, nn

from mmshuffle.backbones import ShuffleNetV1, ShuffleNetV2
from mmshuffle.backbones.shufflenet_v1 import ShuffleUnit
from mmshuffle.backbones.shufflenet_v2 import ShuffleStage
from mmshuffle.deploy import remove_routing, shuffle_free, with_gather
from mmshuffle.errors import UserError
from tests.conftest import REPO
from tests.test_deploy.plain import randomise, worst
from tests.test_deploy.random_networks import networks, shufflenet_v1s, shufflenet_v2s
from tests.variants import KINDS, build

SHUFFLENETS = [name for name in KINDS if name.startswith(('shufflenetv1-', 'shufflenetv2'))]
aligns = st.sampled_from((1, 2, 4, 8))


def examples(count: int):
    """Run a property on ``count`` drawn networks, the same ones each time."""
    return settings(max_examples=count, deadline=None, derandomize=True, database=None)


@torch.no_grad()
def assert_same(plain: nn.Module, *rewrites) -> None:
    """Compare in both precisions with rewritten copies, on images whose sides are odd."""
    for dtype, bound in ((torch.double, 1e-12), (torch.float, 1e-5)):
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(1, 3, 37, 34, dtype=dtype, generator=generator)
        expected = plain.to(dtype).eval()(images)
        for rewrite in rewrites:
            assert worst(expected, rewrite(plain)(images)) < bound


@examples(25)
@given(drawn=networks, align=aligns)
def test_a_backbone_of_any_size_computes_the_same(drawn, align):
    assert_same(drawn.network, lambda net: shuffle_free(net, align=align), with_gather)


@examples(15)
@given(drawn=networks, align=aligns)
def test_permuted_outputs_hold_the_channels_that_they_name(drawn, align):
    plain = drawn.network.double().eval()
    rewritten = shuffle_free(plain, outputs='permuted', align=align)
    images = torch.randn(1, 3, 32, 32, dtype=torch.double)
    with torch.no_grad():
        expected, found = plain(images), rewritten(images)
    for wanted, output, order in zip(expected, found, rewritten.orders, strict=True):
        assert output.shape[1] == len(order)
        held = {c: place for place, c in enumerate(order) if c != -1}
        assert sorted(held) == list(range(wanted.shape[1]))
        assert worst(wanted, output[:, [held[c] for c in sorted(held)]]) < 1e-12


@pytest.mark.parametrize('name', SHUFFLENETS)
def test_every_kind_computes_the_same(name):
    plain = randomise(build(name).double()).eval()
    images = torch.randn(1, 3, 32, 32, dtype=torch.double)
    with torch.no_grad():
        expected = plain(images)
        for rewritten in (shuffle_free(plain), shuffle_free(plain, align=16), with_gather(plain)):
            assert worst(expected, rewritten(images)) < 1e-12
            assert rewritten.out_channels == plain.out_channels
            assert rewritten.out_strides == plain.out_strides


HEADS = (
    dict(type='LinearHead', bias=False),
    dict(type='ConvHead'),
    dict(type='HiddenLayersHead', pool_size=2, hidden_channels=(7,)),
    dict(type='HiddenLayersHead', pool_size=2, hidden_channels=()),
)


@examples(12)
@given(data=st.data(), align=aligns, head=st.sampled_from(HEADS))
def test_a_classifier_gives_the_same_scores(data, align, head):
    family = data.draw(st.sampled_from((shufflenet_v2s, shufflenet_v1s)))
    last = data.draw(st.integers(0, 3))
    drawn = data.draw(family(out_indices=(last,)))
    (channels,) = drawn.network.out_channels
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='ShuffleNetV1', widen_factor=0.25, out_indices=(0,)),
            head=dict(in_channels=channels, num_classes=5, **head),
        )
    )
    model.backbone = drawn.network
    randomise(model.head)
    assert_same(model, lambda model: shuffle_free(model, align=align), with_gather)
    # Nothing is left to be put in order behind the backbone.
    assert gathers_behind_stages(shuffle_free(model, align=align)) == 0


class Pair(nn.Module):
    """A backbone and its neck."""

    def __init__(self, backbone: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.neck(self.backbone(x))


@examples(8)
@given(data=st.data(), align=aligns)
def test_an_fpn_gives_the_same_maps(data, align):
    family = data.draw(st.sampled_from((shufflenet_v2s, shufflenet_v1s)))
    backbone = data.draw(family(out_indices=(0, 1, 2, 3))).network
    start = data.draw(st.integers(0, 1))
    neck = FPN(
        list(backbone.out_channels),
        4,
        num_outs=5 + data.draw(st.integers(0, 1)),
        start_level=start,
        add_extra_convs=data.draw(st.sampled_from((False, 'on_input', 'on_output'))),
        norm_cfg=data.draw(st.sampled_from((None, dict(type='BN')))),
    )
    randomise(neck)
    pair = Pair(backbone, neck)
    assert_same(pair, lambda pair: shuffle_free(pair, align=align), with_gather)
    assert gathers_behind_stages(shuffle_free(pair, align=align)) == 0
    in_a_row = nn.Sequential(backbone, neck)
    assert_same(in_a_row, lambda pair: shuffle_free(pair, align=align))
    assert gathers_behind_stages(shuffle_free(in_a_row, align=align)) == 0


def gathers_behind_stages(model: nn.Module) -> int:
    """Count what puts outputs of a backbone in order."""
    backbone = model[0] if isinstance(model, nn.Sequential) else model.backbone
    return sum(not isinstance(part, nn.Identity) for part in backbone.restores)


class OddNeck(FPN):
    """A neck that reads the backbone's outputs in a way of its own."""

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(x * torch.arange(x.shape[1]).reshape(-1, 1, 1) for x in inputs)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda backbone: Pair(backbone, OddNeck(list(backbone.out_channels), 4, 4)),
        lambda backbone: nn.Sequential(backbone, OddNeck(list(backbone.out_channels), 4, 4)),
    ],
)
def test_unknown_readers_get_the_plain_order(wrap):
    backbone = ShuffleNetV2(widen_factor=0.5, layout='torchvision')
    assert_same(wrap(randomise(backbone)), lambda model: shuffle_free(model, align=16))


def test_a_module_that_reads_the_outputs_twice_gets_the_plain_order():
    class Twice(Pair):
        def __init__(self, backbone, neck):
            super().__init__(backbone, neck)
            self.other = nn.Identity()

        def forward(self, x):
            outputs = self.backbone(x)
            return (*self.neck(outputs), self.other(outputs[1]))

    backbone = randomise(ShuffleNetV2(widen_factor=0.5, layout='torchvision'))
    assert_same(Twice(backbone, FPN(list(backbone.out_channels), 4, 4)), shuffle_free)


C4 = REPO / 'configs/_base_/faster-rcnn_c4.py'


@pytest.fixture(params=['ShuffleNetV2', 'ShuffleNetV1'])
def c4(request):
    """A small detector of the C4 form."""
    backbone = dict(type=request.param, widen_factor=0.5)
    if request.param == 'ShuffleNetV2':
        backbone['layout'] = 'torchvision'
    taps = MODELS.build({**backbone, 'out_indices': (2, 3)})
    trunk, last = taps.out_channels
    cfg = Config.fromfile(C4).model
    cfg.backbone = dict(out_indices=(2,), **backbone)
    cfg.rpn_head.update(in_channels=trunk, feat_channels=8)
    cfg.roi_head.shared_head = dict(type='BackboneStageHead', backbone=backbone)
    cfg.roi_head.bbox_roi_extractor.out_channels = trunk
    cfg.roi_head.bbox_head.update(in_channels=last, num_classes=3)
    return randomise(MODELS.build(cfg)).double().eval()


@torch.no_grad()
def heads(detector: nn.Module, images: Tensor) -> list[Tensor]:
    """RPN outputs, and the box head's on fixed RoIs."""
    features = detector.extract_feat(images)
    rois = torch.tensor([[0, 3, 5, 70, 60], [1, 20, 8, 50, 90]]).to(images)
    boxes = detector.roi_head._bbox_forward(features, rois)
    (scores,), (deltas,) = detector.rpn_head(features)
    return [scores, deltas, boxes['cls_score'], boxes['bbox_pred']]


def test_a_c4_detector_absorbs_the_order(c4):
    images = torch.randn(2, 3, 96, 96, dtype=torch.double)
    expected = heads(c4, images)
    for rewritten in (shuffle_free(c4), shuffle_free(c4, align=16), with_gather(c4)):
        assert worst(expected, heads(rewritten, images)) < 1e-12
        assert not any(
            isinstance(part, (ShuffleStage, ShuffleUnit)) for part in rewritten.modules()
        )
    if isinstance(c4.backbone, ShuffleNetV2):
        rewritten = shuffle_free(c4)
        assert gathers_behind_stages(rewritten) == 0
        shape = (1, c4.roi_head.shared_head.in_channels, 8, 8)
        assert channel_operations(rewritten.roi_head.shared_head, shape).keys() <= V2


def test_a_c4_detector_with_an_unknown_box_head_gets_the_plain_order(c4):
    class OddHead(type(c4.roi_head.bbox_head)):
        def forward(self, x):
            return super().forward(x * torch.arange(x.shape[1]).reshape(-1, 1, 1))

    c4.roi_head.bbox_head.__class__ = OddHead
    images = torch.randn(2, 3, 96, 96, dtype=torch.double)
    assert worst(heads(c4, images), heads(shuffle_free(c4), images)) < 1e-12


def test_a_mask_head_gets_the_plain_order(c4):
    c4.roi_head.mask_head = nn.Identity()
    rewritten = shuffle_free(c4)
    images = torch.randn(1, 3, 64, 64, dtype=torch.double)
    rois = torch.tensor([[0, 3, 5, 50, 60]]).to(images)
    with torch.no_grad():
        expected, found = (
            detector.roi_head._bbox_forward(detector.extract_feat(images), rois)['bbox_feats']
            for detector in (c4, rewritten)
        )
    assert worst(expected, found) < 1e-12


V2 = {'conv', 'relu', 'max_pool2d', 'cat', 'split'}
V1 = {'conv', 'relu', 'max_pool2d', 'avg_pool2d', 'cat', 'add', 'index_select'}
ALIASES = {'_convolution': 'conv', 'relu_': 'relu', 'split_with_sizes': 'split'}


def channel_operations(module: nn.Module, shape: tuple[int, ...]) -> Counter:
    """Count the traced operations of a module on tensors."""
    dtype = next(module.parameters()).dtype
    traced = torch.jit.trace(module.eval(), torch.rand(shape, dtype=dtype), check_trace=False)
    kinds = [node.kind() for node in traced.inlined_graph.nodes() if 'aten::' in node.kind()]
    names = [kind.split('::')[1] for kind in kinds]
    return Counter(ALIASES.get(name, name) for name in names)


@pytest.mark.parametrize('width', [0.5, 1.0])
@pytest.mark.parametrize('layout', ['megvii', 'torchvision'])
def test_v2_is_convolutions_concatenations_and_splits(width, layout):
    plain = ShuffleNetV2(width, layout, out_indices=(4,))
    found = channel_operations(shuffle_free(plain), (1, 3, 64, 64))
    assert found.keys() == V2
    # One concatenation a unit; a split for each branch that more than one reader reads, which is
    # all but the last of a stage.
    assert found['cat'] == 4 + 8 + 4
    assert found['split'] == 4 + 8 + 4
    assert found['conv'] == 1 + 3 * 16 + 2 * 3 + 1


def test_outputs_in_the_plain_order_take_one_gather_each_or_none():
    for layout, gathers in (('torchvision', 3), ('megvii', 0)):
        plain = ShuffleNetV2(0.5, layout)
        found = channel_operations(shuffle_free(plain), (1, 3, 64, 64))
        assert found.pop('index_select', 0) == gathers
        assert found.keys() == V2


def test_v1_has_one_gather_a_unit_and_no_other_routing():
    found = channel_operations(shuffle_free(ShuffleNetV1(3, 0.5)), (1, 3, 64, 64))
    assert found.keys() == V1
    assert found['index_select'] == 16 and found['cat'] == 3
    assert 'index_select' not in channel_operations(
        shuffle_free(ShuffleNetV1(3, 0.5, shuffle='none')), (1, 3, 64, 64)
    )


def test_gathers_take_the_place_of_shuffles_and_splits():
    found = channel_operations(with_gather(ShuffleNetV2(0.5, 'torchvision')), (1, 3, 64, 64))
    assert found.keys() == V2 - {'split'} | {'index_select'}
    # Two for each unit but the first of a stage, and one at the end of a stage.
    assert found['index_select'] == 2 * (3 + 7 + 3) + 3
    found = channel_operations(with_gather(ShuffleNetV1(3, 0.5)), (1, 3, 64, 64))
    assert found.keys() == V1 and found['index_select'] == 16


def test_nothing_is_reshaped_or_transposed():
    for plain in (ShuffleNetV2(0.5, residual=True), ShuffleNetV1(3, 0.5, se_ratio=0.1)):
        for rewritten in (shuffle_free(plain), with_gather(plain)):
            found = channel_operations(rewritten, (1, 3, 64, 64))
            assert not found.keys() & {'view', 'reshape', 'permute', 'transpose', 'stack'}


@pytest.mark.parametrize('align', [1, 16])
@pytest.mark.parametrize(
    'network',
    [
        ShuffleNetV2(1.0, 'megvii'),
        ShuffleNetV2(0.5, 'torchvision', residual=True),
        ShuffleNetV1(3, 0.5),
    ],
    ids=['v2', 'v2-residual', 'v1'],
)
def test_the_bound_has_the_convolutions_and_no_routing(network, align):
    plain = randomise(network.double()).eval()
    bound = remove_routing(plain, align=align)
    images = torch.randn(1, 3, 64, 64, dtype=torch.double)
    with torch.no_grad():
        expected, found = plain(images), bound(images)
    assert [x.shape for x in found] == [x.shape for x in expected]
    assert worst(expected[1:], found[1:]) > 1e-2
    kinds = channel_operations(bound.float(), (1, 3, 64, 64))
    assert kinds['conv'] == sum(isinstance(part, nn.Conv2d) for part in plain.modules())
    assert not kinds.keys() & {'index_select', 'split', 'stack', 'view', 'unflatten', 'transpose'}
    assert kinds['cat'] == 3
    if align == 1:
        convs = [
            sorted(tuple(m.weight.shape) for m in net.modules() if isinstance(m, nn.Conv2d))
            for net in (bound, plain)
        ]
        assert convs[0] == convs[1]


def test_filling_makes_sizes_multiples():
    convs = [
        layer
        for layer in shuffle_free(ShuffleNetV2(1.0, out_indices=(3,)), align=16).modules()
        if isinstance(layer, nn.Conv2d)
    ]
    assert convs[0].out_channels == 32
    inner = [conv for conv in convs if conv.groups > 1 and conv.stride == (1, 1)]
    assert {conv.groups for conv in inner} == {64, 128, 240}
    # What is read of earlier branches is filled too; a stage's output is not.
    assert {conv.in_channels for conv in convs[1:]} == {32, 64, 116, 128, 232, 240}


def test_the_original_is_not_changed():
    plain = randomise(ShuffleNetV2(0.5)).train()
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    for rewrite in (shuffle_free, with_gather, remove_routing):
        rewritten = rewrite(plain)
        assert not rewritten.training
        assert not any(p.requires_grad for p in rewritten.parameters())
    assert plain.training and all(p.requires_grad for p in plain.parameters())
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())


def test_a_network_with_another_forward_keeps_it():
    class Scaled(ShuffleNetV2):
        def forward(self, x):
            return super().forward(x / 255)

    assert_same(randomise(Scaled(0.5, 'torchvision')), shuffle_free, with_gather)


def test_single_stages_and_units_can_be_rewritten():
    images = torch.randn(1, 24, 16, 16, dtype=torch.double)
    for plain in (
        ShuffleNetV2(0.5, 'torchvision').stages[1],
        ShuffleNetV1(3, 1.0).stages[1][0],
    ):
        plain = randomise(plain).double().eval()
        with torch.no_grad():
            assert worst(plain(images), shuffle_free(plain)(images)) < 1e-12


@pytest.mark.parametrize('rewrite', [shuffle_free, with_gather, remove_routing])
def test_what_cannot_be_rewritten_is_told(rewrite):
    with pytest.raises(UserError, match='MobileNetV1 has no channel shuffle'):
        rewrite(build('mobilenetv1-x0.25'))
    norm_cfg = dict(type='GN', num_groups=2)
    with pytest.raises(UserError, match='GroupNorm cannot be folded'):
        rewrite(ShuffleNetV2(0.5, norm_cfg=norm_cfg, out_indices=(1,)))


def test_arguments_are_checked():
    network = ShuffleNetV1(1, 0.25, out_indices=(0,))
    with pytest.raises(ValueError, match="outputs='other'"):
        shuffle_free(network, outputs='other')
    for align in (0, 1.5, True):
        for rewrite in (shuffle_free, remove_routing):
            with pytest.raises(ValueError, match='align='):
                rewrite(network, align=align)
    with pytest.raises(ValueError, match='bare backbone'):
        shuffle_free(nn.Sequential(network), outputs='permuted')
