"""ncnn, written by pnnx and run by ncnn's Python module."""

import copy
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmshuffle.errors import UserError, last_line

from .formats import Format, Network, Request
from .ncnn_gather import lower_gathers
from .torchscript_format import save, trace


class NcnnFormat(Format):
    """ncnn's text file of layers and its file of weights, both in float32.

    ncnn knows no batch: an image is (3, H, W) to it. The blobs are called ``in0``, ``out0``,
    ``out1``, ...
    """

    name = 'ncnn'
    suffixes = ('.param', '.bin')
    packages = ('ncnn', 'pnnx')
    dynamic_batch = False
    aligns = (1, 4)

    def write(self, request: Request, paths: Sequence[Path]) -> None:
        """Trace the module and let pnnx translate the trace.

        Raises:
            UserError: pnnx does not know an operator of the network.
        """
        import pnnx

        shape = ','.join(map(str, request.images.shape))
        module = copy.deepcopy(request.module)
        lower_gathers(module)
        # pnnx writes seven files beside its input.
        with tempfile.TemporaryDirectory(dir=paths[0].parent) as folder:
            save(trace(module, request.images), Path(folder, 'net.pt'))
            done = subprocess.run(
                [pnnx.EXEC_PATH, 'net.pt', f'inputshape=[{shape}]f32', 'fp16=0'],
                cwd=folder,
                capture_output=True,
                text=True,
            )
            written = [Path(folder, 'net.ncnn.param'), Path(folder, 'net.ncnn.bin')]
            if done.returncode != 0 or not all(path.is_file() for path in written):
                raise UserError(
                    f'pnnx cannot translate the network (exit code {done.returncode}): '
                    f'{last_line(done.stderr or done.stdout)}'
                )
            unknown = sorted({kind for kind in _layer_types(written[0]) if not kind.isalnum()})
            if unknown:
                raise UserError(
                    f'ncnn has no layer for {", ".join(unknown)}: try another --shuffle, or onnx'
                )
            for source, target in zip(written, paths, strict=True):
                source.replace(target)

    def load(self, paths: Sequence[Path], threads: int | None = None) -> Network:
        """Load the network, with arithmetic and storage in float32 wherever it runs.

        Raises:
            UserError: ncnn does not take the files.
        """
        import ncnn

        net = ncnn.Net()
        if threads is not None:
            net.opt.num_threads = threads
        net.opt.use_vulkan_compute = False
        for half in ('use_fp16_packed', 'use_fp16_storage', 'use_fp16_arithmetic'):
            setattr(net.opt, half, False)
        net.opt.use_bf16_storage = False
        for read, path in zip((net.load_param, net.load_model), paths, strict=True):
            if read(str(path)) != 0:
                raise UserError(f'ncnn cannot load {path.name}')
        inputs = net.input_names()
        # ncnn lists every blob that nothing reads, pieces of slices too, in the order of the file.
        named = [name for name in net.output_names() if name.startswith('out')]
        outputs = sorted(named, key=lambda name: int(name.removeprefix('out')))

        def run(images: np.ndarray) -> list[np.ndarray]:
            array = np.ascontiguousarray(images[0])  # has to outlive the Mat of its memory
            # A copy: a first layer that works in place ends the process on memory of others.
            image = ncnn.Mat(array).clone()
            with net.create_extractor() as extractor:
                extractor.input(inputs[0], image)
                # A copy, because the memory is the extractor's; and with the batch that it lacks.
                return [np.array(extractor.extract(name)[1])[None] for name in outputs]

        return run

    def count_nodes(self, paths: Sequence[Path]) -> Counter[str]:
        """Count the layers by type; ``Split`` only names a blob twice and copies nothing."""
        return Counter(_layer_types(paths[0]))


def _layer_types(param: Path) -> list[str]:
    """Types of the layers of a .param file, behind its magic number and its counts."""
    return [line.split()[0] for line in param.read_text().splitlines()[2:] if line.strip()]
