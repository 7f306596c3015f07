_base_ = './shufflenetv2-x1.0_8xb128-300k_imagenet.py'

model = dict(backbone=dict(widen_factor=2.0), head=dict(in_channels=2048, dropout=0.2))
