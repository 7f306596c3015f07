#!/usr/bin/env python3
"""Time ways to pool RoIs position-sensitively with mmcv's RoIAlign and without.

All give the same as mmshuffle's PSRoIAlign, which is one of them; they take turns in one process,
forward and backward, on maps and RoIs as Light-Head R-CNN has in training.
"""

from collections.abc import Callable

import torch
from mmcv.ops import roi_align
from torch import Tensor
from training import measure, table

from mmshuffle.detection.ps_roi_align import PSRoIAlign
from mmshuffle.engine import cli
from mmshuffle.engine.files import write_json
from mmshuffle.errors import UserError

EXAMPLE = """examples:
  python tools/benchmarks/ps_roi_align.py --threads 1
  python tools/benchmarks/ps_roi_align.py --device cuda --shape 800 1200 --rois 2000
"""
SIDE, STRIDE, RATIO = 7, 16, 2
BINS = SIDE * SIDE


def gather_after(x: Tensor, rois: Tensor) -> Tensor:
    """RoIAlign of all channels, of which a diagonal is taken."""
    pooled = roi_align(x, rois, SIDE, 1 / STRIDE, RATIO, 'max', False)
    pooled = pooled.view(len(rois), -1, BINS, BINS).diagonal(dim1=2, dim2=3)
    return pooled.unflatten(2, (SIDE, SIDE))


def slice_before(x: Tensor, rois: Tensor) -> Tensor:
    """RoIAlign of the channels of one bin after another, of which that bin is taken."""
    found = []
    for number in range(BINS):
        part = x[:, number::BINS].contiguous()
        pooled = roi_align(part, rois, SIDE, 1 / STRIDE, RATIO, 'max', False)
        found.append(pooled.flatten(2)[..., number])
    return torch.stack(found, -1).unflatten(2, (SIDE, SIDE))


def one_call_a_bin(x: Tensor, rois: Tensor) -> Tensor:
    """RoIAlign of the channels and the part of the RoIs of one bin after another."""
    bin_rois = PSRoIAlign(SIDE, 1 / STRIDE)._bins(rois).view(len(rois), BINS, 5)
    found = []
    for number in range(BINS):
        part = torch.cat((rois[:, :1], bin_rois[:, number, 1:]), 1)
        pooled = roi_align(x[:, number::BINS].contiguous(), part, 1, 1.0, RATIO, 'max', True)
        found.append(pooled.flatten(1))
    return torch.stack(found, -1).unflatten(2, (SIDE, SIDE))


def indexing(x: Tensor, rois: Tensor) -> Tensor:
    """Bilinear samples by indexing, without mmcv; also to compile."""
    height, width = x.shape[2:]
    bin_rois = PSRoIAlign(SIDE, 1 / STRIDE)._bins(rois)
    maps = x.unflatten(1, (-1, BINS)).permute(0, 2, 3, 4, 1).flatten(0, 3)  # (places, channels)
    first, size = bin_rois[:, 1:3] - 0.5, bin_rois[:, 3:] - bin_rois[:, 1:3]
    part = (torch.arange(RATIO, device=x.device) + 0.5) / RATIO
    columns, rows = (first[:, i, None] + size[:, i, None] * part for i in (0, 1))
    inside_y, inside_x = (rows >= -1) & (rows <= height), (columns >= -1) & (columns <= width)
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    top, left = rows.floor(), columns.floor()
    samples = 0
    for y, wy in ((top, 1 - rows + top), ((top + 1).clamp(max=height - 1), rows - top)):
        for z, wx in (
            (left, 1 - columns + left),
            ((left + 1).clamp(max=width - 1), columns - left),
        ):
            place = (bin_rois[:, :1] * height + y)[:, :, None] * width + z[:, None]
            weight = (wy * inside_y)[:, :, None] * (wx * inside_x)[:, None]
            samples = samples + maps[place.long()] * weight[..., None]
    pooled = samples.flatten(1, 2).amax(1).view(len(rois), BINS, -1).transpose(1, 2)
    return pooled.unflatten(2, (SIDE, SIDE))


def make_rois(count: int, images: int, shape: tuple[int, int], device: str) -> Tensor:
    """RoIs of all sizes on images of a shape, those of an image together."""
    height, width = shape
    torch.manual_seed(0)
    corners = torch.rand(count * images, 2, 2).sort(1).values * torch.tensor([width, height])
    index = torch.arange(images).repeat_interleave(count)[:, None]
    return torch.cat((index, corners.flatten(1)), 1).to(device)


def main() -> None:
    """Measure and print."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument('--device', default='cpu', help='cpu or cuda (default %(default)s)')
    parser.add_argument('--threads', type=int, help="CPU threads; PyTorch's choice by default")
    parser.add_argument('--rounds', type=int, default=10, help='timed turns (default %(default)s)')
    parser.add_argument('--images', type=int, default=2, help='of a batch (default %(default)s)')
    parser.add_argument('--rois', type=int, default=256, help='an image (default %(default)s)')
    parser.add_argument('--shape', type=int, nargs=2, default=(320, 480), metavar=('H', 'W'))
    parser.add_argument('--compile', action='store_true', help='add a compiled form')
    parser.add_argument('--out', help='write the figures to this JSON file')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rois = make_rois(args.rois, args.images, tuple(args.shape), args.device)
    height, width = (side // STRIDE for side in args.shape)
    x = torch.randn(args.images, 10 * BINS, height, width, device=args.device, requires_grad=True)
    ways: dict[str, Callable] = {
        'gather after RoIAlign': gather_after,
        'slicing before RoIAlign': slice_before,
        'RoIAlign of a bin, 49 calls': one_call_a_bin,
        'RoIAlign of a bin, one call (PSRoIAlign)': PSRoIAlign(SIDE, 1 / STRIDE),
        'indexing': indexing,
    }
    if args.compile:
        ways['indexing, compiled'] = torch.compile(indexing)
    expected = gather_after(x, rois)
    for name, way in ways.items():
        worst = (way(x, rois) - expected).abs().max().item()
        if worst > 1e-3:
            raise UserError(f'{name} differs by {worst:.1e}: its time would mean nothing')

    def step(way: Callable) -> Callable[[], None]:
        return lambda: torch.autograd.grad(way(x, rois).sum(), x)

    figures = measure({name: step(way) for name, way in ways.items()}, args)
    title = f'{args.images} images of {args.shape[0]}x{args.shape[1]}, {args.rois} RoIs an image'
    print(table(f'{title}, {args.device}, {torch.get_num_threads()} threads', figures))
    if args.out:
        write_json(vars(args) | dict(torch=torch.__version__, figures=figures), args.out)


if __name__ == '__main__':
    cli.run(main)
