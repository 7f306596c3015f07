# The same on the ten classes, with the 1000-way classifier and labels from a list.
_base_ = './mobilenetv1-x1.0-tf-slim_8xb128-300k_imagenet.py'

test_dataloader = dict(
    batch_size=50,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        data_root='data/imagenet_10/',
        data_prefix='',
        ann_file='val_imagenet_labels.txt',
        pipeline=[dict(type='LoadImage'), dict(type='PackClassInputs')],
    ),
)
