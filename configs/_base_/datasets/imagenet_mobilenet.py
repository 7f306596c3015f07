# ImageNet with milder crops: the MobileNet paper (section 3.2) limits how small they get, and does
# not print the limit.
_base_ = './imagenet.py'

train_pipeline = [
    dict(type='LoadRandomResizedCrop', size=224, scale=(0.5, 1.0), max_unreadable=10),
    dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='PackClassInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
