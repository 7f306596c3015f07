# What the networks before BatchNorm share: images of 227x227, of which only the mean is subtracted,
# from a random place of the whole image's short side of 256, and no smoothing of labels.
_base_ = ['./imagenet.py', './imagenet_300k.py']

train_pipeline = [
    dict(type='LoadImage', max_unreadable=10),
    dict(type='Resize', scale=(256, 100000), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(227, 227)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackClassInputs'),
]
test_pipeline = _base_.test_pipeline
test_pipeline[2].crop_size = 227
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(mean=[104.0, 117.0, 123.0], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    head=dict(label_smoothing=0.0),
)
custom_hooks = [dict(type='PlainCheckpointHook'), dict(type='ReproducibleResumeHook')]
