_base_ = './shufflenetv1-x1.0-g3_8xb128-300k_imagenet.py'

model = dict(backbone=dict(groups=1, widen_factor=0.25), head=dict(in_channels=144))
