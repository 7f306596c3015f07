"""LiteRT (formerly TensorFlow Lite), written by litert-torch and run by ai-edge-litert."""

from collections import Counter
from pathlib import Path

from torch import Tensor, fx

from mmshuffle.errors import UserError

from .board import load_litert
from .formats import Inference, Paths, refusing, silence
from .quantise_xnnpack import XnnpackFormat


class LiteRTFormat(XnnpackFormat):
    """LiteRT's file; images and maps are (1, C, H, W), as in PyTorch."""

    name = 'litert'
    suffixes = ('.tflite',)
    packages = ('litert_torch', 'ai_edge_litert')
    folded = False

    def compile(self, recorded: fx.GraphModule, images: Tensor, path: Path, int8: bool) -> None:
        """Convert."""
        import litert_torch
        from litert_torch.quantize import pt2e_quantizer, quant_config

        settings = None
        if int8:  # tells the converter to take the operations up into the layers
            quantiser = pt2e_quantizer.PT2EQuantizer()
            quantiser.set_global(pt2e_quantizer.get_symmetric_quantization_config())
            settings = quant_config.QuantConfig(pt2e_quantizer=quantiser)
        with refusing('litert-torch cannot convert the network'):
            program = litert_torch.convert(recorded, (images,), quant_config=settings)
        program.export(str(path))

    def load(self, paths: Paths, threads: int | None = None) -> Inference:
        """Make an interpreter."""
        with refusing(f'LiteRT cannot load {paths[0].name}', UserError), silence():
            return load_litert(paths[0], threads or 0)

    def count_nodes(self, paths: Paths) -> Counter[str]:
        """Count the operators, and as ``DELEGATE`` the pieces that XNNPACK gets of them here."""
        from ai_edge_litert.interpreter import Interpreter

        with silence():
            interpreter = Interpreter(str(paths[0]))
            interpreter.allocate_tensors()
        return Counter(node['op_name'] for node in interpreter._get_ops_details())
