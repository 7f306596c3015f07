"""LiteRT (formerly TensorFlow Lite), written by litert-torch and run by ai-edge-litert."""

import re
from collections import Counter
from typing import Any

import numpy as np
from torch import Tensor, nn

from mmshuffle.errors import UserError

from .formats import Format, Inference, Names, Paths, refusing, silence
from .lowering import lower


class LiteRTFormat(Format):
    """LiteRT's file in float32; images and maps are (1, C, H, W), as in PyTorch."""

    name = 'litert'
    suffixes = ('.tflite',)
    packages = ('litert_torch', 'ai_edge_litert')
    dynamic_batch = False

    def write(
        self, module: nn.Module, images: Tensor, paths: Paths, names: Names, dynamic_batch: bool
    ) -> None:
        """Convert what ``torch.export`` records."""
        with silence():
            import litert_torch

            recorded = lower(module, images)
            with refusing('litert-torch cannot convert the network'):
                program = litert_torch.convert(recorded, (images,))
            program.export(str(paths[0]))

    def load(self, paths: Paths, threads: int | None = None) -> Inference:
        """Make an interpreter, which leaves to XNNPACK what that takes."""
        interpreter = _interpreter(paths, threads)
        (image,) = interpreter.get_input_details()
        # LiteRT has an order of its own.
        numbered = {
            int(re.findall(r'output_(\d+)', output['name'])[-1]): output['index']
            for output in interpreter.get_output_details()
        }

        def run(images: np.ndarray) -> list[np.ndarray]:
            interpreter.set_tensor(image['index'], images)
            interpreter.invoke()
            return [interpreter.get_tensor(numbered[number]) for number in sorted(numbered)]

        return run

    def count_nodes(self, paths: Paths) -> Counter[str]:
        """Count the operators, and as ``DELEGATE`` the pieces that XNNPACK gets of them here."""
        return Counter(node['op_name'] for node in _interpreter(paths)._get_ops_details())


def _interpreter(paths: Paths, threads: int | None = None) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    with refusing(f'LiteRT cannot load {paths[0].name}', UserError), silence():
        interpreter = Interpreter(str(paths[0]), num_threads=threads)
        interpreter.allocate_tensors()
    return interpreter
