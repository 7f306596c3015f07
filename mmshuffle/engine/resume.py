"""Which checkpoint a run goes on from."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmshuffle.errors import UserError
from mmshuffle.weights import read_checkpoint

# What mmengine's runner puts into a checkpoint to resume from; its best_*.pth have no optimizer.
NEEDED = ('meta', 'state_dict', 'message_hub', 'optimizer')
HUB = ('log_scalars', 'runtime_info', 'resumed_keys')


def find_resumable(work_dir: str | Path) -> Path | None:
    """Find the checkpoint of ``work_dir`` that is furthest in the training.

    The epoch and the iteration inside the files decide, whatever their names and ages are: a copy
    can have any. mmengine trusts the file ``last_checkpoint`` blindly; here a checkpoint that was
    cut off or deleted is passed over.

    Raises:
        UserError: There are checkpoints, but none that can be resumed.
    """
    found, damaged, others = [], [], []
    for path in _checkpoints(Path(work_dir)):
        problems = damaged
        try:
            content = _peek(path)
            problems = others
            found.append((progress(content, path), path.stat().st_mtime, path))
        except UserError as error:
            problems.append(str(error))
    if found:
        for problem in damaged:
            print(f'warning: passed over: {problem}', file=sys.stderr)
        return max(found)[-1]
    if reasons := '; '.join(damaged + others):
        raise UserError(f'no checkpoint of {work_dir} can be resumed: {reasons}')
    return None


def resume_from(cfg: Config, path: str | Path) -> None:
    """Make a run go on from a checkpoint, with its seed.

    The order of the data follows from the seed, and the data loader is built before mmengine reads
    the checkpoint.
    """
    content = _peek(Path(path))
    progress(content, path)
    cfg.resume, cfg.load_from = True, str(path)
    seed = content['meta'].get('seed')
    if seed is not None:
        cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': seed}


def progress(content: Any, path: str | Path) -> tuple[int, int]:
    """Epoch and iteration of a checkpoint's content.

    Raises:
        UserError: It is none of a training, or lacks what resuming needs.
    """
    if not isinstance(content, Mapping) or not {'meta', 'state_dict'} <= content.keys():
        raise UserError(f'{path} is no training checkpoint')
    missing = [key for key in NEEDED if not isinstance(content.get(key), Mapping)]
    hub = content.get('message_hub')
    if isinstance(hub, Mapping):
        missing += [key for key in HUB if not isinstance(hub.get(key), Mapping)]
    meta = content['meta']
    if not missing and isinstance(meta, Mapping):
        numbers = meta.get('epoch'), meta.get('iter')
        if all(isinstance(number, int) for number in numbers):
            return numbers
    raise UserError(
        f'{path} holds {"no " + " and no ".join(missing) if missing else "no epoch"}, and cannot '
        f'be resumed; start from its weights with --cfg-options load_from={path}'
    )


def _checkpoints(work_dir: Path) -> Iterator[Path]:
    """Checkpoints of a run, in its work dir or where the config has put them."""
    yield from work_dir.glob('*.pth')
    pointer = work_dir / 'last_checkpoint'
    if not pointer.is_file():
        return
    named = pointer.read_text(encoding='utf-8', errors='replace').strip()
    if not named.endswith('.pth'):  # as after the power failed while it was written
        return
    elsewhere = Path(named).parent
    # In a copied work dir it names the run that was copied, which may have gone on since.
    if elsewhere.resolve() != work_dir.resolve() and not (elsewhere / pointer.name).exists():
        yield from elsewhere.glob('*.pth')


def _peek(path: Path) -> Any:
    """Content of a checkpoint, with the tensors left on the disk until they are used."""
    try:
        return torch.load(path, map_location='cpu', mmap=True, weights_only=True)
    except Exception:  # of another form, or damaged: the reader tells
        return read_checkpoint(path)
