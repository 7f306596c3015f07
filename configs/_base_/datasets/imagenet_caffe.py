# ImageNet as Caffe's releases read it: 227x227 from a random place of the short side of 256. (They
# scale every image to 256x256, whatever its ratio.)
_base_ = './imagenet.py'

train_pipeline = [
    dict(type='LoadImage', max_unreadable=10),
    dict(type='Resize', scale=(256, 100000), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(227, 227)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackClassInputs'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', scale=(256, 100000), keep_ratio=True),
    dict(type='CenterCrop', crop_size=227),
    dict(type='PackClassInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
