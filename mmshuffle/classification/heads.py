"""Heads that turn the last feature map into scores of classes."""

import itertools
from abc import abstractmethod
from collections.abc import Sequence

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F


class ClassificationHead(BaseModule):
    """What every head has: the loss, and the layer ``fc`` that gives the scores.

    Args:
        num_classes: Number of classes.
        label_smoothing: Share of the target that is spread evenly over all classes.

    Raises:
        ValueError: ``num_classes`` or ``label_smoothing`` is outside its allowed values.
    """

    fc: nn.Module
    init_std = 0.01

    def __init__(
        self,
        num_classes: int,
        label_smoothing: float = 0.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if type(num_classes) is not int or num_classes < 1:
            raise ValueError(f'num_classes={num_classes!r}: give a whole number from 1')
        if not 0 <= label_smoothing < 1:
            raise ValueError(f'label_smoothing={label_smoothing!r}: give a number from 0, below 1')
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def init_weights(self) -> None:
        """Draw the weights of the last layer from a normal distribution, or as ``init_cfg`` says.

        The bias is 0.
        """
        nn.init.normal_(self.fc.weight, std=self.init_std)
        if self.fc.bias is not None:
            nn.init.zeros_(self.fc.bias)
        super().init_weights()

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the backbone's outputs to scores before the softmax, (N, num_classes)."""

    def loss(self, features: Sequence[Tensor], target: Tensor) -> dict[str, Tensor]:
        """Cross entropy with class indices, (N,), or soft targets, (N, num_classes)."""
        scores = self(features)
        return dict(loss=F.cross_entropy(scores, target, label_smoothing=self.label_smoothing))


@MODELS.register_module()
class LinearHead(ClassificationHead):
    """Global average pooling, dropout and a fully connected layer.

    Args:
        in_channels: Channels of the backbone's last output.
        dropout: Probability of dropping a pooled feature.
        bias: Whether the layer has a bias; the authors' ShuffleNets have none.
        init_std: Standard deviation of the layer's initial weights.
        num_classes, **kwargs: See :class:`ClassificationHead`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        dropout: float = 0.0,
        bias: bool = True,
        init_std: float = 0.01,
        **kwargs,
    ) -> None:
        super().__init__(num_classes, **kwargs)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(in_channels, num_classes, bias=bias)
        self.init_std = init_std

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the last output, (N, in_channels, H, W), to scores, (N, num_classes)."""
        return self.fc(self.dropout(F.adaptive_avg_pool2d(features[-1], 1).flatten(1)))


@MODELS.register_module()
class ConvHead(ClassificationHead):
    """Dropout, 1x1 convolution, ReLU and global average pooling (SqueezeNet, conv10).

    Args:
        in_channels: Channels of the backbone's last output.
        dropout: Probability of dropping an element.
        num_classes, **kwargs: See :class:`ClassificationHead`.
    """

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.5, **kwargs) -> None:
        super().__init__(num_classes, **kwargs)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the last output, (N, in_channels, H, W), to scores, (N, num_classes)."""
        scores = F.relu(self.fc(self.dropout(features[-1])))
        return F.adaptive_avg_pool2d(scores, 1).flatten(1)


@MODELS.register_module()
class HiddenLayersHead(ClassificationHead):
    """Fully connected layers on a pooled map (AlexNet, fc6 to fc8).

    Each hidden layer is followed by ReLU and dropout, and starts as in Caffe's release: deviation
    0.005, bias 0.1.

    Args:
        in_channels: Channels of the backbone's last output.
        pool_size: Side of the map that the last output is average-pooled to.
        hidden_channels: Widths of the hidden layers.
        dropout: Probability of dropping an output of a hidden layer.
        num_classes, **kwargs: See :class:`ClassificationHead`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        pool_size: int = 6,
        hidden_channels: Sequence[int] = (4096, 4096),
        dropout: float = 0.5,
        **kwargs,
    ) -> None:
        super().__init__(num_classes, **kwargs)
        self.pool = nn.AdaptiveAvgPool2d(pool_size)
        widths = [in_channels * pool_size**2, *hidden_channels]
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(widths[-1], num_classes)

    def init_weights(self) -> None:
        """Draw the weights from normal distributions, or as ``init_cfg`` says."""
        for layer in self.hidden:
            nn.init.normal_(layer.weight, std=0.005)
            nn.init.constant_(layer.bias, 0.1)
        super().init_weights()

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the last output, (N, in_channels, H, W), to scores, (N, num_classes)."""
        x = self.pool(features[-1]).flatten(1)
        for layer in self.hidden:
            x = self.dropout(F.relu(layer(x)))
        return self.fc(x)
