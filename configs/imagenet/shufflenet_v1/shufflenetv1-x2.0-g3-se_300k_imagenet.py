_base_ = ['../../_base_/imagenet.py', '../../_base_/imagenet_300k.py']

model = dict(
    backbone=dict(
        type='ShuffleNetV1', groups=3, widen_factor=2.0, se_ratio=0.0625, out_indices=(3,)
    ),
    head=dict(in_channels=1920, bias=False),
)
