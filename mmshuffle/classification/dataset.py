"""Images with a class each: folders by class, a list, or the files of ILSVRC's devkit."""

from collections.abc import Sequence
from pathlib import Path

from mmdet.registry import DATASETS
from mmengine.dataset import BaseDataset

from .listing import find_class_folders, list_annotated, list_class_folders, read_lines


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """ImageNet, or a data set of one's own in the same layout.

    Without ``ann_file``, every folder below ``data_root`` and ``data_prefix`` is a class and holds
    its images; classes are numbered in the order of their names, which for ImageNet is the usual
    order. With ``ann_file`` images lie anywhere below that folder, see
    :func:`mmshuffle.classification.listing.list_annotated`.

    Args:
        data_root: Folder of the data set.
        data_prefix: Folder of the images below it.
        ann_file: List of images and labels, below ``data_root``.
        classes: Names of the classes, or a text file with a name a line; folders of other names are
            passed over.
        **kwargs: See ``mmengine.dataset.BaseDataset``.

    Raises:
        UserError: The layout is another one; the message says which was found.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str = '',
        ann_file: str = '',
        classes: Sequence[str] | str | None = None,
        **kwargs,
    ) -> None:
        if isinstance(classes, str):
            classes = read_lines(Path(classes), 'classes')
        self._given_classes = tuple(classes) if classes else None
        super().__init__(
            data_root=data_root, data_prefix=dict(img_path=data_prefix), ann_file=ann_file, **kwargs
        )

    def _join_prefix(self) -> None:
        # mmengine joins with slashes only, and drops an empty prefix.
        root = Path(self.data_root or '')
        self.data_prefix = dict(img_path=str(root / self.data_prefix['img_path']))
        self.ann_file = str(root / self.ann_file) if self.ann_file else ''

    def find_classes(self) -> tuple[tuple[str, ...] | None, set[int]]:
        """Names of the classes, None where only indices are known, and the labels that occur.

        Images in class folders are not listed for that, which for ImageNet can take minutes.
        """
        if self.ann_file:
            classes, labelled = self._list()
            return classes, {label for _, label in labelled}
        classes = find_class_folders(Path(self.data_prefix['img_path']), self._given_classes)
        return classes, set(range(len(classes)))

    def _list(self) -> tuple[tuple[str, ...] | None, list[tuple[str, int]]]:
        folder = Path(self.data_prefix['img_path'])
        if self.ann_file:
            return list_annotated(folder, Path(self.ann_file), self._given_classes)
        return list_class_folders(folder, self._given_classes)

    def load_data_list(self) -> list[dict]:
        """List ``img_path`` and ``gt_label`` of every image."""
        classes, labelled = self._list()
        if classes is not None:
            self._metainfo['classes'] = classes
        return [dict(img_path=path, gt_label=label) for path, label in labelled]
