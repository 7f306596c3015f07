# Caffe's input, BGR minus the mean; labels are not smoothed.
_base_ = './image_classifier.py'

model = dict(
    data_preprocessor=dict(mean=[104.0, 117.0, 123.0], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(type='SqueezeNet', version='1.0', padding='published', out_indices=(2,)),
    head=dict(type='ConvHead', in_channels=512, label_smoothing=0.0),
)
