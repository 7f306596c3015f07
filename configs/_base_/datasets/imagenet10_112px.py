# Ten classes of ImageNet at 112x112, to compare networks on one CPU.
_base_ = './imagenet10.py'

train_pipeline = [
    dict(type='LoadRandomResizedCrop', size=112, scale=(0.35, 1.0), max_unreadable=10),
    dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='PackClassInputs'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='PackClassInputs'),
]
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
