_base_ = './shufflenetv2-x1.0_8xb128-300k_imagenet.py'

model = dict(
    backbone=dict(arch='164', se_ratio=0.5, residual=True), head=dict(in_channels=2048, dropout=0.2)
)
