# The frame of a classifier of ImageNet: RGB with its mean and standard deviation, as MMDetection's
# detectors have, and label smoothing as in the ShuffleNet authors' release.
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='BatchNormalizer',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    head=dict(type='LinearHead', num_classes=1000, label_smoothing=0.1),
)
