_base_ = './shufflenetv1-x0.5-g3_1xb32-16e_imagenet10-112px.py'

model = dict(backbone=dict(shuffle='none'))
