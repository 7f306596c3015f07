# As in the authors' release, the classifier has no bias.
_base_ = './image_classifier.py'

model = dict(
    backbone=dict(type='ShuffleNetV2', widen_factor=1.0, out_indices=(4,)),
    head=dict(in_channels=1024, bias=False),
)
