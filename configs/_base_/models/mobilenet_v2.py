# MMDetection's own network; its output 7 is the last 1x1 convolution.
_base_ = './image_classifier.py'

model = dict(
    backbone=dict(type='MobileNetV2', widen_factor=1.0, out_indices=(7,)),
    head=dict(in_channels=1280),
)
