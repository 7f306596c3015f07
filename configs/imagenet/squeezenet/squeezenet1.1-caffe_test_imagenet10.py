# Version 1.1 on 500 images of ten classes, for weights converted from the authors' Caffe release:
# BGR minus the mean, 227x227. tools/test.py takes the file under torchvision's names itself.
_base_ = './squeezenet1.1_8xb64-170k_imagenet.py'

test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', scale=(227, 227), interpolation='bicubic', backend='pillow'),
    dict(type='PackClassInputs'),
]
test_dataloader = dict(
    batch_size=50,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        data_root='data/imagenet_10/',
        data_prefix='',
        ann_file='val_imagenet_labels.txt',
        pipeline=test_pipeline,
    ),
)
model = dict(data_preprocessor=dict(mean=[103.939, 116.779, 123.68]))
