_base_ = '../../_base_/imagenet_mobilenet.py'

model = dict(
    backbone=dict(type='MobileNetV1', separable=False, out_indices=(3,)),
    head=dict(in_channels=1024),
)
