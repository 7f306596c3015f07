# 192x192; in testing the same share of the image as 224 of 256.
_base_ = './mobilenetv1-x1.0_8xb128-300k_imagenet.py'

train_pipeline = [
    dict(type='LoadRandomResizedCrop', size=192, scale=(0.5, 1.0), max_unreadable=10),
    dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='PackClassInputs'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', scale=(219, 100000), keep_ratio=True),
    dict(type='CenterCrop', crop_size=192),
    dict(type='PackClassInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
