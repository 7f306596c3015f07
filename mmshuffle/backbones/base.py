"""The contract that every backbone keeps."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from .layers import set_norm_eval


class BaseBackbone(BaseModule, metaclass=ABCMeta):
    """A network cut into stages that a detector can tap, freeze and pretrain.

    Stages are numbered alike in every backbone, as in MMDetection's ResNet: stage 0 is the stem and
    ends at stride 4, stages 1, 2 and 3 end at strides 8, 16 and 32. A network may have a stage 4, a
    last 1x1 convolution at stride 32. Stages above ``max(out_indices)`` are not built, so that no
    parameter is without a gradient.

    A subclass calls ``super().__init__``, sets what its stages need, and ends its constructor with
    :meth:`_build_stages`.

    Args:
        out_indices: Stages whose outputs :meth:`forward` returns, strictly increasing.
        frozen_stages: Stages 0 to ``frozen_stages`` keep their parameters and their running
            statistics; -1 freezes nothing.
        norm_eval: Keep every BatchNorm, of whatever kind, in evaluation mode while training.
        norm_cfg: Normalisation layer; BatchNorm where None.
        conv_cfg: Convolution layer; ``Conv2d`` where None.
        act_cfg: Activation; ReLU where None.
        with_cp: Recompute the activations of a unit in the backward pass instead of storing them.
        init_cfg: Initialisation as in mmengine; the network's published one where None.
            ``dict(type='Pretrained', checkpoint=..., prefix=...)`` loads strictly, see
            :func:`mmshuffle.weights.load_pretrained`.

    Attributes:
        out_channels (tuple[int, ...]): Channels of each returned output.
        out_strides (tuple[int, ...]): Stride of each returned output against the image.

    Raises:
        ValueError: An argument is outside its allowed values, which the message names.
    """

    def __init__(
        self,
        *,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: dict | None = None,
        conv_cfg: dict | None = None,
        act_cfg: dict | None = None,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not isinstance(out_indices, Sequence):
            raise ValueError(
                f'out_indices={out_indices!r} of {type(self).__name__}: give a sequence of integers'
            )
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.layer_cfg = dict(
            norm_cfg=norm_cfg or dict(type='BN'),
            conv_cfg=conv_cfg,
            act_cfg=act_cfg or dict(type='ReLU'),
        )

    @abstractmethod
    def _make_stage(self, index: int) -> nn.Module:
        """Build stage ``index``."""

    def reset_parameters(self) -> None:
        """Give every parameter the network's published initial distribution."""
        raise NotImplementedError

    def _build_stages(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        """Check the indices, build the stages that the outputs need, freeze what is to be frozen.

        Args:
            channels: Output channels of every stage that the network has.
            strides: Output stride of every stage that the network has.
        """
        last = len(channels) - 1
        indices = self.out_indices
        if (
            not indices
            or any(type(i) is not int or not 0 <= i <= last for i in indices)
            or list(indices) != sorted(set(indices))
        ):
            raise ValueError(
                f'out_indices={indices} of {type(self).__name__}: give strictly increasing '
                f'integers from 0 to {last} (strides {", ".join(map(str, strides))})'
            )
        built = indices[-1] + 1
        check_choice(self, 'frozen_stages', self.frozen_stages, range(-1, built))
        self.stage_channels = tuple(channels[:built])
        self.stage_strides = tuple(strides[:built])
        self.out_channels = tuple(channels[i] for i in indices)
        self.out_strides = tuple(strides[i] for i in indices)
        self.stages = nn.ModuleList(self._make_stage(i) for i in range(built))
        for stage in self.stages[: self.frozen_stages + 1]:
            stage.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the requested stage outputs.

        Args:
            x: Images, (N, 3, H, W).

        Returns:
            One tensor an entry of ``out_indices``, (N, C_i, ceil(H / s_i), ceil(W / s_i)) with C_i
            and s_i as in ``out_channels`` and ``out_strides``.
        """
        outputs = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
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

    def init_weights(self) -> None:
        """Initialise: the user's ``init_cfg``, else the published distribution; pretrained last.

        Raises:
            UserError: A pretrained checkpoint does not fit this network.
        """
        from mmshuffle.weights import load_pretrained, split_init_cfg

        pretrained, others = split_init_cfg(self.init_cfg)
        if others:
            given, self.init_cfg = self.init_cfg, others
            super().init_weights()
            self.init_cfg = given
        else:
            self.reset_parameters()
            self._is_init = True
        for cfg in pretrained:
            load_pretrained(self, **cfg)


def check_choice(owner: Any, name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuse a value that is not allowed.

    Raises:
        ValueError: The message names the class, the argument, the value and what is allowed.
    """
    # 1 is in (True, False) and in (1.0, 2.0); a width may be written as 1, an index not as 1.0.
    kinds = {type(choice) for choice in allowed}
    kinds |= {int} if float in kinds else set()
    if type(value) not in kinds or value not in allowed:
        choices = ', '.join(map(repr, allowed))
        raise ValueError(f'{name}={value!r} of {type(owner).__name__}: choose one of {choices}')
