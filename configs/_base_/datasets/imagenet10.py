# Ten classes of ImageNet, small: train/ has 150 images a class with a short side of 160, val/ 50 a
# class, scaled to 224x224. Any folder of class folders can take its place.
_base_ = './imagenet.py'

data_root = 'data/imagenet_10/'
train_pipeline = [
    dict(type='LoadRandomResizedCrop', size=160, scale=(0.25, 1.0), max_unreadable=10),
    dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='PackClassInputs'),
]
test_pipeline = [dict(type='LoadImage'), dict(type='PackClassInputs')]
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    pin_memory=False,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    pin_memory=False,
    dataset=dict(data_root=data_root, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
