# As in the authors' release, the classifier has no bias.
_base_ = './image_classifier.py'

model = dict(
    backbone=dict(type='ShuffleNetV1', groups=3, widen_factor=1.0, out_indices=(3,)),
    head=dict(in_channels=960, bias=False),
)
