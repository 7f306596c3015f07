"""A table made small: the rows' own networks, heads, losses and assigners on little data.

Data, image sizes, numbers of RoIs and schedules are others. Backbones are pretrained on drawn
objects, detectors trained on drawn pictures, or on a set of the user's.
"""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmshuffle.analysis.model_cost import count_config
from mmshuffle.analysis.tables import Row
from mmshuffle.checks import LOADERS, is_classifier_config
from mmshuffle.checks.dataset_config import steps_of, unwrapped
from mmshuffle.classification.listing import list_class_folders
from mmshuffle.data.drawing import CLASSES
from mmshuffle.data.finetune import DetectionData, Split, apply_dataset, apply_epochs, find_dataset
from mmshuffle.data.synthetic import draw_dataset, draw_objects
from mmshuffle.engine import shipped

# How much larger than usual drawn objects are, beside pictures, for features of stride 16.
ZOOM = 1.6
# Networks whose costs differ by less are of one level.
LEVEL = 1.45


@dataclass(frozen=True)
class Scale:
    """A smaller scale than the paper's; the defaults are those of the miniature."""

    name: str
    folder: Path = Path('data')  # for what is drawn
    data: str | None = None  # folder in COCO's format; a set is drawn where None
    # Folder with train/ and val/ of class folders; objects are drawn where None.
    imagenet: str | None = None
    train_images: int = 240  # pictures drawn for training
    val_images: int = 80  # pictures drawn for testing
    objects: int = 1600  # drawn for pretraining
    epochs: int = 4  # of a detector
    pretrain_epochs: int = 8  # of a classifier
    side: int = 64  # of a classifier's image
    # Width and height of a two-stage detector's image; the row's own where None.
    size: tuple[int, int] | None = (160, 120)
    # RoIs of an image in training, and four times as many in testing; the row's own where None.
    rois: int | None = 16
    anchors: float = 0.25  # share of the row's anchor sizes
    batch: int = 2  # images a step of a detector
    lr: float = 5e-4  # of a detector, at that batch

    @property
    def note(self) -> str:
        """What a reader must know of the figures."""
        where = Path(self.data).name if self.data else 'drawn pictures'
        before = Path(self.imagenet).name if self.imagenet else 'drawn objects'
        proof = '' if self.data else 'a proof that the pipeline runs, '
        return (
            f'Measured on {where} after {self.epochs} epochs, with backbones trained on {before} '
            f'for {self.pretrain_epochs}: {proof}not a measurement of the published figures.'
        )

    @property
    def latency_options(self) -> tuple[str, ...]:
        """Of ``tools/latency.py``: a shorter measurement, where it is only a proof."""
        return () if self.data else ('--sessions', '2', '--seconds', '0.5', '--cooldown', '0')

    def facts(self, table: str) -> dict[str, Any]:
        """All that decides the results for a table, as plain data."""
        facts = {'table': table, 'note': self.note, **asdict(self)}
        del facts['folder']
        paths = {key: str(Path(facts[key]).resolve()) for key in ('data', 'imagenet') if facts[key]}
        return {**facts, **paths, 'size': self.size and list(self.size)}

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that are run by default: of drawn data, those of the cheapest comparison.

        That is the lowest level of backbone cost, at the smallest image, at which networks of
        several families meet.
        """
        if self.data is not None:
            return list(rows)
        built = [row for row in rows if row.pretrained and shipped.locate(row.config)]
        smallest = [row for row in built if row.shape == min(r.shape for r in built)]
        paths = [str(shipped.root() / row.pretrained) for row in smallest]
        costs = [count_config(path, Row.shape).total.multiply_adds for path in paths]
        for least in sorted(costs):
            level = [r for r, cost in zip(smallest, costs) if least <= cost <= LEVEL * least]
            if len({row.family for row in level}) > 1:
                return level
        return smallest

    def prepare(self) -> None:
        """Draw what is missing."""
        if self.imagenet is None:
            draw_objects(self.folder / 'objects', self.objects, self.objects // 8 + 5, self.side)
        if self.data is None:
            counts = self.train_images, self.val_images
            draw_dataset(self.folder / 'pictures', *counts, size=self.size, zoom=ZOOM)

    def shape(self, cfg: Config, shape: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a fitted config's image, given its row's."""
        if is_classifier_config(cfg):
            return self.side, self.side
        return self.size[::-1] if self.size and 'roi_head' in cfg.model else shape

    def images(self, cfg: Config) -> int:
        """Training images of a config."""
        return len(self._classes[1]) if is_classifier_config(cfg) else self._dataset.train.count

    @functools.cached_property
    def _classes(self) -> tuple[Sequence[str], Sequence[Any]]:
        """Names of the classes of the pretraining, and its images."""
        if self.imagenet is None:
            return CLASSES, range(self.objects)
        return list_class_folders(Path(self.imagenet, 'train'))

    @functools.cached_property
    def _dataset(self) -> DetectionData:
        if self.data is not None:
            return find_dataset(self.data)
        root = self.folder / 'pictures'
        counts = dict(train=self.train_images, val=self.val_images)
        parts = [Split(root / f'annotations/{k}.json', root / k, n) for k, n in counts.items()]
        return DetectionData(*parts, CLASSES)

    def fit(self, cfg: Config) -> Config:
        """Make a row's config small; changes ``cfg``."""
        (self._fit_classifier if is_classifier_config(cfg) else self._fit_detector)(cfg)
        for key in LOADERS:
            cfg[key].update(num_workers=0, persistent_workers=False, pin_memory=False)
        for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
            cfg[key] = None  # tested once, at the end
        for hook in cfg.custom_hooks:
            if hook['type'] == 'PreciseBNHook':
                hook['num_batches'] = 20
        cfg.custom_hooks = [*cfg.custom_hooks, dict(type='ProgressHook'), dict(type='HistoryHook')]
        cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=2)
        cfg.setdefault('randomness', dict(seed=0))
        return cfg

    def _fit_classifier(self, cfg: Config) -> None:
        root = str(Path(self.imagenet or self.folder / 'objects').resolve())
        cfg.model.head.num_classes = len(self._classes[0])
        crop = dict(type='LoadRandomResizedCrop', size=self.side, scale=(0.35, 1.0))
        resize = dict(type='Resize', scale=(self.side, self.side))
        flip, pack = dict(type='RandomFlip', prob=0.5), dict(type='PackClassInputs')
        for key in LOADERS:
            test = [dict(type='LoadImage'), resize, pack]
            cfg[key].dataset.pipeline = [crop, flip, pack] if key == LOADERS[0] else test
            cfg[key].dataset.data_root, cfg[key].batch_size = root, 32
        self._fit_schedule(cfg, self.pretrain_epochs, 32, dict(lr=2e-3, weight_decay=0.05))

    def _fit_detector(self, cfg: Config) -> None:
        apply_dataset(cfg, self._dataset)
        model = cfg.model
        if 'roi_head' in model:
            for key in ('train_dataloader', 'test_dataloader') if self.size else ():
                for _, dataset in unwrapped(cfg, key):
                    for transform in steps_of(dataset['pipeline']):
                        if 'scale' in transform:
                            transform['scale'] = self.size
            if self.rois is not None:
                model.train_cfg.rcnn.sampler.update(num=self.rois, pos_fraction=0.5)
                model.train_cfg.rpn_proposal.max_per_img = 8 * self.rois
                model.test_cfg.rpn.max_per_img = 4 * self.rois
                if model.roi_head.get('shared_head'):  # of the backbone; it runs on every RoI
                    model.roi_head.bbox_roi_extractor.roi_layer.output_size = 7
                    model.roi_head.bbox_head.roi_feat_size = 4
            anchors = model.rpn_head.anchor_generator
            anchors.scales = [self.anchors * scale for scale in anchors.scales]
        cfg.test_dataloader.batch_size = 1
        self._fit_schedule(cfg, self.epochs, self.batch, dict(lr=self.lr, weight_decay=1e-4))
        cfg.optim_wrapper.clip_grad = dict(max_norm=35)

    def _fit_schedule(self, cfg: Config, epochs: int, batch: int, optimizer: dict) -> None:
        # From random heads, SGD with momentum learns little in so few steps.
        optimizer = dict(type='AdamW', **optimizer)
        cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=optimizer)
        cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs)
        cfg.param_scheduler = [
            dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=50),
            dict(type='CosineAnnealingLR', T_max=epochs, end=epochs, convert_to_iter_based=True),
        ]
        cfg.auto_scale_lr = dict(enable=False, base_batch_size=batch)
        cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
        apply_epochs(cfg, epochs, batch, self.images(cfg))


SCALES = dict(
    miniature=Scale('miniature'),
    # What the tests run.
    smoke=Scale('smoke', train_images=8, val_images=4, objects=40, epochs=3, pretrain_epochs=1),
    subset=Scale('subset', size=None, rois=None, anchors=1.0, batch=4, epochs=12),
)
