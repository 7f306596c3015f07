"""The contract that every backbone keeps."""

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn, TypeVar

from mmengine.model import BaseModule, constant_init
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn

from mmshuffle.pretrained import load, split_init_cfg

from .layers import Units, run_unit, set_norm_eval, stem

Choice = TypeVar('Choice')


class BaseBackbone(BaseModule, metaclass=ABCMeta):
    """A network cut into stages that a detector can tap, freeze and pretrain.

    Stages are numbered alike in every backbone, as in MMDetection's ResNet: stage 0 is the stem and
    ends at stride 4, stages 1, 2 and 3 end at strides 8, 16 and 32. A network may have a stage 4, a
    last 1x1 convolution at stride 32. Stages above ``max(out_indices)`` are not built, so that no
    parameter is without a gradient.

    A subclass calls ``super().__init__``, sets what its stages need, and ends its constructor with
    :meth:`_build_stages`.

    Args:
        in_channels: Channels of the images: 3, or 1 for grey ones, 4 with depth or infrared, ...
        out_indices: Stages whose outputs :meth:`forward` returns, strictly increasing.
        output_stride: 32; or 16 in networks that ``output_strides`` says can do that, for detectors
            that want a finer last map: the first unit of stage 3 then has stride 1, and the 3x3
            convolutions of the units behind it have dilation 2, as in the dilated ResNets of
            DeepLab and torchvision. Every second pixel of the output is the plain network's, with
            the same weights (but for squeeze-and-excitation, whose means are over more pixels).
            MMDetection's ResNet dilates the first unit too, which would not give that.
        frozen_stages: Stages 0 to ``frozen_stages`` keep their parameters and their running
            statistics; -1 freezes nothing.
        norm_eval: Keep every BatchNorm, of whatever kind, in evaluation mode while training.
        norm_cfg: Normalisation layer; the network's published one where None.
        conv_cfg: Convolution layer; ``Conv2d`` where None.
        act_cfg: Activation; ReLU where None.
        with_cp: Recompute the activations of a unit in the backward pass instead of storing them.
        init_cfg: Initialisation as in mmengine; the network's published one where None.
            ``dict(type='Pretrained', checkpoint=..., prefix=...)`` loads strictly, see
            :func:`mmshuffle.weights.load_pretrained`.

    Attributes:
        output_strides (tuple[int, ...]): Of the class: the allowed ``output_stride``.
        default_norm_cfg (dict | None): Of the class: the normalisation where ``norm_cfg`` is None.
        norm_bias (float): Of the class: the bias that normalisation layers start from.
        stage_is_unit (bool): Of the class: whether ``with_cp`` recomputes a stage as a whole.
        out_channels (tuple[int, ...]): Channels of each returned output.
        out_strides (tuple[int, ...]): Stride of each returned output against the image.

    Raises:
        ValueError: An argument is outside its allowed values, which the message names.
    """

    output_strides = (32,)
    default_norm_cfg: dict | None = dict(type='BN')
    norm_bias = 0.0
    stage_is_unit = False

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        output_stride: int = 32,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: dict | None = None,
        conv_cfg: dict | None = None,
        act_cfg: dict | None = None,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if type(in_channels) is not int or in_channels < 1:
            self._refuse('in_channels', in_channels, 'give a whole number above 0')
        if not isinstance(out_indices, Sequence) or isinstance(out_indices, str):
            self._refuse('out_indices', out_indices, 'give a sequence of integers')
        for name, cfg in (('norm_cfg', norm_cfg), ('conv_cfg', conv_cfg), ('act_cfg', act_cfg)):
            if cfg is not None and not (isinstance(cfg, dict) and 'type' in cfg):
                self._refuse(name, cfg, 'give None, or a dict with a type')
        self.norm_eval = self._choose('norm_eval', norm_eval, (False, True))
        self.with_cp = self._choose('with_cp', with_cp, (False, True))
        self.output_stride = self._choose('output_stride', output_stride, self.output_strides)
        self.in_channels = in_channels
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.layer_cfg = dict(
            norm_cfg=norm_cfg or self.default_norm_cfg,
            conv_cfg=conv_cfg,
            act_cfg=act_cfg or dict(type='ReLU'),
        )

    @abstractmethod
    def _make_stage(self, index: int) -> nn.Module:
        """Build stage ``index``."""

    @abstractmethod
    def _init_conv(self, conv: nn.Conv2d) -> None:
        """Give a convolution the network's published initial distribution; its bias is 0."""

    def _refuse(self, name: str, value: Any, allowed: str) -> NoReturn:
        """Raise a ``ValueError`` that names class, argument, value and what is allowed."""
        raise ValueError(f'{name}={value!r} of {type(self).__name__}: {allowed}')

    def _choose(self, name: str, value: Choice, allowed: Collection[Choice]) -> Choice:
        """Return the value of an argument, or refuse one that is not allowed."""
        # 1 is in (True, False) and in (1.0, 2.0); a width may be written as 1, an index not as 1.0.
        kinds = {type(choice) for choice in allowed}
        kinds |= {int} if float in kinds else set()
        if type(value) not in kinds or value not in allowed:
            self._refuse(name, value, f'choose one of {", ".join(map(repr, allowed))}')
        return value

    def _build_stages(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        """Check the indices, build the stages that the outputs need, freeze what is to be frozen.

        Args:
            channels: Output channels of every stage that the network has.
            strides: Output stride of every stage that the network has, without dilation.
        """
        strides = [min(stride, self.output_stride) for stride in strides]
        last = len(channels) - 1
        indices = self.out_indices
        if (
            not indices
            or any(type(i) is not int or not 0 <= i <= last for i in indices)
            or list(indices) != sorted(set(indices))
        ):
            known = ', '.join(map(str, strides))
            rule = f'give strictly increasing integers from 0 to {last} (strides {known})'
            self._refuse('out_indices', indices, rule)
        built = indices[-1] + 1
        self._choose('frozen_stages', self.frozen_stages, range(-1, built))
        self.stage_channels = tuple(channels[:built])
        self.out_channels = tuple(channels[i] for i in indices)
        self.out_strides = tuple(strides[i] for i in indices)
        self.stages = nn.ModuleList(self._make_stage(i) for i in range(built))
        for stage in self.stages[: self.frozen_stages + 1]:
            stage.requires_grad_(False)

    def _stride_and_dilation(self, index: int) -> tuple[int, int]:
        """Stride of the unit that a stage begins with, and dilation of the units behind it."""
        return (1, 2) if index == 3 and self.output_stride == 16 else (2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the requested stage outputs.

        Args:
            x: Images, (N, in_channels, H, W).

        Returns:
            One tensor an entry of ``out_indices``, (N, C_i, ceil(H / s_i), ceil(W / s_i)) with C_i
            and s_i as in ``out_channels`` and ``out_strides``.
        """
        outputs = []
        for index, stage in enumerate(self.stages):
            x = run_unit(stage, x, self.with_cp and self.stage_is_unit)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def train(self, mode: bool = True) -> 'BaseBackbone':
        """Set the mode; frozen stages and, with ``norm_eval``, BatchNorms stay in evaluation."""
        super().train(mode)
        for stage in self.stages[: self.frozen_stages + 1]:
            stage.eval()
        if self.norm_eval:
            set_norm_eval(self)
        return self

    def reset_parameters(self) -> None:
        """Give every parameter the network's published initial distribution.

        Normalisation layers have weight 1 and bias ``norm_bias``.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
                self._init_conv(layer)
            elif isinstance(layer, (_BatchNorm, nn.GroupNorm)) and layer.affine:
                constant_init(layer, 1, self.norm_bias)

    def init_weights(self) -> None:
        """Initialise: the user's ``init_cfg``, else the published distribution; pretrained last."""
        pretrained, others = split_init_cfg(self.init_cfg)
        if others:
            given, self.init_cfg = self.init_cfg, others
            super().init_weights()
            self.init_cfg = given
        else:
            self.reset_parameters()
            self._is_init = True
        for cfg in pretrained:
            load(self, cfg)


class StackedUnits(BaseBackbone):
    """A network in the frame of ShuffleNet whose units are of another kind.

    Stage 0 is Conv1 and MaxPool (stride 4), stages 1 to 3 have 4, 8 and 4 units (strides 8, 16,
    32), the first of which has stride 2. A subclass has ``widths``, the channels of the stages.
    """

    # Makes a unit of input channels, output channels, stride, ``layer_cfg`` and, where the last
    # stage may have stride 1, ``dilation``.
    unit_type: Callable[..., nn.Module]

    def _make_stage(self, index: int) -> nn.Module:
        if index == 0:
            return Units(stem(self.in_channels, self.widths[:1], self.layer_cfg), self.with_cp)
        channels, units = self.widths[index - 1], []
        first, dilation = self._stride_and_dilation(index)
        options = dict(layer_cfg=self.layer_cfg)
        if dilation > 1:
            options['dilation'] = dilation
        for stride in (first, *[1] * ((4, 8, 4)[index - 1] - 1)):
            units.append(self.unit_type(channels, self.widths[index], stride, **options))
            channels = self.widths[index]
        return Units(units, self.with_cp)

    def _init_conv(self, conv: nn.Conv2d) -> None:
        """Initialise as ResNet is, normal of variance 2 / fan-out: none is published."""
        nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')


class ShuffleNet(BaseBackbone):
    """What both versions of ShuffleNet share.

    Args:
        se_ratio: See there.
        **kwargs: See :class:`BaseBackbone`.
    """

    output_strides = (32, 16)
    norm_bias = 1e-4

    def __init__(self, se_ratio: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if se_ratio is not None and (type(se_ratio) not in (int, float) or not 0 < se_ratio <= 1):
            self._refuse('se_ratio', se_ratio, 'give None or a number above 0 and up to 1')
        self.se_ratio = se_ratio

    def _init_conv(self, conv: nn.Conv2d) -> None:
        """Initialise as the authors' releases do: normal of deviation 1 / fan-in of a group."""
        first = conv is self.stages[0][0].conv
        nn.init.normal_(conv.weight, 0, 0.01 if first else 1 / conv.weight.shape[1])
