_base_ = './image_classifier.py'

model = dict(
    backbone=dict(type='XceptionLike', widen_factor=1.0, out_indices=(3,)),
    head=dict(in_channels=512),
)
