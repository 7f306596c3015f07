# The classifier that RetinaFace starts from, with its 1000 classes, on the images of ten of them:
# tools/test.py takes mobilenetV1X0.25_pretrain.tar itself.
_base_ = './mobilenetv1-x0.25_8xb128-300k_imagenet.py'

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
