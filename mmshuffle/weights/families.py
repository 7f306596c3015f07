"""Naming schemes of published weight files: which is it, and how it maps onto our names."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn

from . import (
    megvii_shufflenet_v1,
    megvii_shufflenet_v2,
    mmpretrain_shufflenet_v1,
    mmpretrain_shufflenet_v2,
    tf_slim_mobilenet_v1,
    timm_mobilenet_v1,
    torchvision_alexnet,
    torchvision_mobilenet_v2,
    torchvision_shufflenet_v2,
    torchvision_squeezenet,
)
from .classifier_head import is_classifier, place_in_classifier

Tensors = dict[str, Tensor]
Triple = tuple[float, float, float]
NANODET_PREFIX = 'model.backbone.'
# Where a whole detector or classifier keeps its backbone.
PREFIXES = ('', 'backbone.', NANODET_PREFIX)


@dataclass(frozen=True)
class Normalisation:
    """The input that weights were trained with: ``(pixel - mean) / std``, pixels from 0 to 255.

    Attributes:
        channel_order: ``'RGB'`` or ``'BGR'``; ``mean`` and ``std`` are in this order.
        mean: Subtracted from the pixels.
        std: Divides the difference.
        source: Who says so.
        exception: Input of other files of the same names, which no tensor tells apart.
    """

    channel_order: str
    mean: Triple
    std: Triple
    source: str
    exception: str = ''

    def __str__(self) -> str:
        exception = f' ({self.exception})' if self.exception else ''
        return f'{self.channel_order}, mean {_show(self.mean)}, std {_show(self.std)}{exception}'


IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
MEGVII_INPUT = Normalisation('BGR', (0.0,) * 3, (1.0,) * 3, 'train.py of the release')


@dataclass(frozen=True)
class Family:
    """A naming scheme, and how the networks published under it were trained.

    Attributes:
        name: What the report calls it.
        markers: Tensor names that together tell the scheme.
        convert: Renames tensors; raises :class:`~mmshuffle.errors.UserError` where the network was
            built in a way that the weights cannot fit.
        normalisation: The input of the training.
        eps: The BatchNorm's epsilon.
        activation: Class name of the activation.
        head: The published classifier, after ``convert``: name of a layer to its name in the head
            of :class:`~mmshuffle.classification.ImageClassifier`.
        background: Whether class 0 of the published classifier is the background.
        prefix: The only prefix under which the scheme is looked for; any of :data:`PREFIXES` where
            None.
    """

    name: str
    markers: frozenset[str]
    convert: Callable[[nn.Module, Tensors], Tensors]
    normalisation: Normalisation
    eps: float = 1e-5
    activation: str = 'ReLU'
    head: Mapping[str, str] = field(default_factory=lambda: {'fc': 'fc'})
    background: bool = False
    prefix: str | None = None


FAMILIES = (
    Family(
        'NanoDet ShuffleNetV2',
        torchvision_shufflenet_v2.MARKERS,
        torchvision_shufflenet_v2.convert,
        Normalisation('BGR', IMAGENET_MEAN[::-1], IMAGENET_STD[::-1], 'config/*.yml'),
        activation='LeakyReLU',
        prefix=NANODET_PREFIX,
    ),
    Family(
        'torchvision ShuffleNetV2',
        torchvision_shufflenet_v2.MARKERS,
        torchvision_shufflenet_v2.convert,
        Normalisation('RGB', IMAGENET_MEAN, IMAGENET_STD, 'transforms of ShuffleNet_V2_*_Weights'),
    ),
    Family(
        'MMPretrain ShuffleNetV2',
        mmpretrain_shufflenet_v2.MARKERS,
        mmpretrain_shufflenet_v2.convert,
        Normalisation('RGB', IMAGENET_MEAN, IMAGENET_STD, 'imagenet_bs64_pil_resize.py'),
        head={'head.fc': 'fc'},
    ),
    Family(
        'MMPretrain ShuffleNetV1',
        mmpretrain_shufflenet_v1.MARKERS,
        mmpretrain_shufflenet_v1.convert,
        Normalisation('RGB', IMAGENET_MEAN, IMAGENET_STD, 'imagenet_bs64_pil_resize.py'),
        head={'head.fc': 'fc'},
    ),
    Family(
        'megvii ShuffleNetV1',
        megvii_shufflenet_v1.MARKERS,
        megvii_shufflenet_v1.convert,
        MEGVII_INPUT,
        head={'classifier.0': 'fc'},
    ),
    Family(
        'megvii ShuffleNetV2',
        megvii_shufflenet_v2.MARKERS,
        megvii_shufflenet_v2.convert,
        MEGVII_INPUT,
        head={'classifier.0': 'fc'},
    ),
    Family(
        'Yolo-FastestV2 ShuffleNetV2',
        megvii_shufflenet_v2.MARKERS_BY_STAGE,
        megvii_shufflenet_v2.convert,
        Normalisation('BGR', (0.0,) * 3, (255.0,) * 3, "the detector's train.py"),
    ),
    Family(
        'TF-slim MobileNetV1',
        tf_slim_mobilenet_v1.MARKERS,
        tf_slim_mobilenet_v1.convert,
        Normalisation('RGB', (127.5,) * 3, (127.5,) * 3, 'inception_preprocessing.py'),
        eps=1e-3,
        activation='ReLU6',
        head={'logits': 'fc'},
        background=True,
    ),
    Family(
        'timm MobileNetV1',
        timm_mobilenet_v1.MARKERS,
        timm_mobilenet_v1.convert,
        Normalisation(
            'RGB', (127.5,) * 3, (127.5,) * 3, 'cfg of mobilenetv1_*.ra4_e3600_r224_in1k'
        ),
        activation='ReLU6',
        head={'classifier': 'fc'},
    ),
    *(
        Family(
            f'torchvision MobileNetV2{note}',
            markers,
            torchvision_mobilenet_v2.convert,
            Normalisation('RGB', IMAGENET_MEAN, IMAGENET_STD, 'transforms of MobileNet_V2_Weights'),
            activation='ReLU6',
            head={'classifier.1': 'fc'},
        )
        for note, markers in (
            ('', torchvision_mobilenet_v2.MARKERS),
            (' with flat names', torchvision_mobilenet_v2.MARKERS_FLAT),
        )
    ),
    *(
        Family(
            f'torchvision SqueezeNet {version}',
            markers,
            torchvision_squeezenet.convert,
            Normalisation(
                'RGB',
                IMAGENET_MEAN,
                IMAGENET_STD,
                'transforms of SqueezeNet1_*_Weights',
                'if the file was converted from Caffe: BGR, mean (104, 117, 123), std 1',
            ),
            head={'classifier.1': 'fc'},
        )
        for version, markers in torchvision_squeezenet.MARKERS.items()
    ),
    Family(
        'torchvision AlexNet',
        torchvision_alexnet.MARKERS,
        torchvision_alexnet.convert,
        Normalisation('RGB', IMAGENET_MEAN, IMAGENET_STD, 'transforms of AlexNet_Weights'),
        head={'classifier.1': 'hidden.0', 'classifier.4': 'hidden.1', 'classifier.6': 'fc'},
    ),
)


def recognise(
    module: nn.Module, tensors: Tensors, prefix: str | None = None
) -> tuple[Family | None, Tensors]:
    """Find the family of ``tensors`` and rename them for ``module``.

    Args:
        module: The network that they are for, or an image classifier around it.
        tensors: Tensors by published names.
        prefix: Name below which the network's tensors are; the others are then dropped. Where None,
            a leading ``backbone.`` or ``model.backbone.`` is found and removed.

    Returns:
        The family, None where no published scheme matches or the names are those of ``module``
        already, and the tensors by its names; names without a counterpart are kept.
    """
    if prefix is None:
        views = [(start, *_split(tensors, start)) for start in PREFIXES]
    else:
        start = prefix.rstrip('.') + '.'
        views = [(start, _split(tensors, start)[0], {})]
    network = module.backbone if is_classifier(module) else module
    own = module.state_dict().keys()
    needed = {name for name in own if not name.endswith('num_batches_tracked')}
    for _, inner, others in views:
        # Also names that a family has: MMPretrain's networks run in MMDetection as they are.
        if needed and needed <= inner.keys():
            return None, {**others, **inner}
    for start, inner, others in views:
        for family in FAMILIES:
            if family.markers <= inner.keys() and family.prefix in (None, start):
                state = family.convert(network, {**others, **inner})
                if network is not module:
                    state = place_in_classifier(module, state, family.head, family.background)
                return family, state
    for _, inner, others in views:
        if not own.isdisjoint(inner):
            return None, {**others, **inner}
    return None, views[0][1]


def hints(module: nn.Module, family: Family) -> Iterator[str]:
    """Say in which settings, that no tensor shows, ``module`` differs from the published network.

    Args:
        module: Network that was filled.
        family: Where its weights come from.

    Yields:
        One phrase a setting, with the argument that mends it.
    """
    for layer in module.modules():
        if isinstance(layer, _BatchNorm) and layer.eps != family.eps:
            yield (
                f'trained with BatchNorm eps {family.eps:g}, not {layer.eps:g}: '
                f"give norm_cfg=dict(type='BN', eps={family.eps:g})"
            )
            break
    for layer in module.modules():
        found = type(getattr(layer, 'activate', None)).__name__
        if found not in ('NoneType', family.activation):
            yield (
                f'trained with {family.activation}, not {found}: '
                f'give act_cfg=dict(type={family.activation!r})'
            )
            break


def _split(tensors: Tensors, prefix: str) -> tuple[Tensors, Tensors]:
    """Part tensors into those below ``prefix``, without it, and the others."""
    inner = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    return inner, {n: t for n, t in tensors.items() if not n.startswith(prefix)}


def _show(values: Triple) -> str:
    shown = [f'{value:g}' for value in values]
    return shown[0] if len(set(shown)) == 1 else f'({", ".join(shown)})'
