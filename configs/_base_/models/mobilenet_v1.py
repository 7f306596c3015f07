# The paper (section 3.2) trains without label smoothing.
_base_ = './image_classifier.py'

model = dict(
    backbone=dict(type='MobileNetV1', widen_factor=1.0, out_indices=(3,)),
    head=dict(in_channels=1024, label_smoothing=0.0),
)
