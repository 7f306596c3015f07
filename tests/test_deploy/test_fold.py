"""BatchNorm folding: the same outputs, and what must not be folded is left."""

import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn

from mmshuffle.deploy import fold_batchnorm
from tests.test_deploy.plain import randomise, worst
from tests.variants import KINDS, KINDS_WITHOUT_C5, build


def norms(module: nn.Module) -> list[str]:
    kinds = (nn.modules.batchnorm._NormBase, nn.GroupNorm)
    return [name for name, part in module.named_modules() if isinstance(part, kinds)]


@pytest.mark.parametrize('name', KINDS + KINDS_WITHOUT_C5)
def test_every_network_computes_the_same_without_batchnorm(name):
    network = randomise(build(name).double()).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_batchnorm(network)
    assert norms(folded) == []
    assert not folded.training and not any(p.requires_grad for p in folded.parameters())
    images = torch.rand(2, 3, 65, 64, dtype=torch.double)
    # The original is as it was: in training mode, with its statistics and gradients.
    assert network.training and all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    with torch.no_grad():
        assert worst(network.eval()(images), folded(images)) < 1e-12


class Reversed(nn.Sequential):
    """A sequence whose neighbours do not follow each other."""

    def forward(self, x):
        for layer in reversed(self):
            x = layer(x)
        return x


class Standardised(nn.Conv2d):
    """A convolution that normalises its weight: scaling the weight changes nothing."""

    def forward(self, x):
        weight = self.weight / self.weight.norm()
        return self._conv_forward(x, weight, self.bias)


PAIRS = [
    (nn.Conv1d(4, 6, 3, bias=True), nn.BatchNorm1d(6)),
    (nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6, affine=False)),
    (nn.Conv2d(4, 6, 1, bias=False), nn.SyncBatchNorm(6, eps=0.1)),
    (nn.Conv3d(4, 6, 2, stride=2), nn.BatchNorm3d(6)),
]
FOLDED = [nn.Sequential(nn.Identity(), conv, norm, nn.PReLU(6)) for conv, norm in PAIRS]
LEFT = [
    nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
    nn.Sequential(nn.Conv2d(4, 4, 1), nn.InstanceNorm2d(4, track_running_stats=True)),
    nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4)),
    nn.Sequential(nn.ConvTranspose2d(4, 4, 2), nn.BatchNorm2d(4)),
    nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)),
    nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)),
    nn.Sequential(Standardised(4, 4, 1), nn.BatchNorm2d(4)),
    nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)), nn.BatchNorm2d(4)),
    Reversed(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
    ConvModule(4, 4, 1, norm_cfg=dict(type='BN'), order=('norm', 'conv', 'act')),
    ConvModule(4, 4, 1, norm_cfg=dict(type='BN'), order=('conv', 'act', 'norm')),
    ConvModule(4, 4, 1, norm_cfg=dict(type='GN', num_groups=2)),
]


@pytest.mark.parametrize(
    ('network', 'left'),
    [(network, left) for left, some in enumerate((FOLDED, LEFT)) for network in some],
    ids=lambda x: ' '.join(type(p).__name__ for p in x.modules()) if x not in (0, 1) else None,
)
def test_pairs_are_folded_what_cannot_be_is_left_and_layers_keep_their_names(network, left):
    network = randomise(network).double().eval()
    folded = fold_batchnorm(network)
    assert len(norms(folded)) == left
    assert [*dict(folded.named_children())] == [*dict(network.named_children())]
    sides = max(parameter.dim() for parameter in network.parameters()) - 2
    x = torch.randn(2, 4, *[9] * sides, dtype=torch.double)
    with torch.no_grad():
        assert worst(network(x), folded(x)) < 1e-12


def test_a_convolution_that_two_norms_share_is_folded_into_two():
    shared = nn.Conv2d(4, 4, 1, bias=False)
    pair = [ConvModule(4, 4, 1, norm_cfg=dict(type='BN'), act_cfg=None) for _ in range(2)]
    network = nn.ModuleList(pair)
    for part in network:
        part.conv = shared
    network = randomise(network).double().eval()
    folded = fold_batchnorm(network)
    x = torch.randn(2, 4, 8, 8, dtype=torch.double)
    with torch.no_grad():
        for before, after in zip(network, folded):
            assert worst(before(x), after(x)) < 1e-12
    assert norms(folded) == []
    # Half precision stays.
    halves = {value.dtype for value in fold_batchnorm(network.half()).state_dict().values()}
    assert halves == {torch.half}
