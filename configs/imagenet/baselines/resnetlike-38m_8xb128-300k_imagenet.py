_base_ = './resnetlike-140m_8xb128-300k_imagenet.py'

model = dict(backbone=dict(mflops=38), head=dict(in_channels=192))
