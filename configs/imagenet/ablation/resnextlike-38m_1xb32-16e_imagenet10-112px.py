_base_ = './resnetlike-38m_1xb32-16e_imagenet10-112px.py'

model = dict(backbone=dict(unit='resnext'))
