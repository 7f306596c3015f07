"""The exact forms in which a channel shuffle can be written, and which one is for which device."""

import re
from dataclasses import dataclass

from mmshuffle.errors import UserError

DEVICES = ('arm', 'x86')


@dataclass(frozen=True)
class ShuffleForm:
    """A form of the channel shuffle; all compute the same."""

    # ``'native'``, as PyTorch computes it, or ``'free'`` or ``'interleaved'``, see
    # :func:`mmshuffle.deploy.shuffle_free`.
    name: str = 'native'
    align: int = 1  # 1 for the native form

    @classmethod
    def parse(cls, text: str) -> 'ShuffleForm':
        """Read a name, with the alignment where there is one: ``free-8``.

        Raises:
            UserError: It is something else.
        """
        found = re.fullmatch(r'(native)|(free|interleaved)(?:-([1-9]\d*))?', text)
        if found is None:
            raise UserError(
                f'--shuffle {text}: give native, free or interleaved, or the latter with the size '
                'of blocks, such as free-8'
            )
        return cls(found[1] or found[2], int(found[3] or 1))

    def __str__(self) -> str:
        return self.name if self.align == 1 else f'{self.name}-{self.align}'


NATIVE = ShuffleForm()
# On ARM, what takes the fewest instructions in the ARM code of the runtime: ncnn works on blocks of
# 4 numbers in float32 and of 8 in half precision; in ONNX Runtime blocks of 4 save 6 to 8 % with
# ShuffleNet V1 and cost V2 1x 1 %. On x86 with AVX-512, what was fastest. See docs/deploy.md and
# docs/results.md.
FORMS = {
    ('ncnn', 'arm', 'fp16'): 'interleaved-8',
    ('ncnn', 'arm', 'fp32'): 'free-4',
    ('ncnn', 'x86', 'fp32'): 'free-4',
    ('onnx', 'arm', 'fp32'): 'free-4',
    ('onnx', 'x86', 'fp32'): 'free-16',
}
