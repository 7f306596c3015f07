_base_ = '../../_base_/imagenet_mobilenet.py'

model = dict(
    backbone=dict(type='MobileNetV1', widen_factor=1.0, out_indices=(3,)),
    head=dict(in_channels=1024),
)

# Input of 128x128; in testing the same share of the image as 224 of 256.
train_pipeline = _base_.train_pipeline
train_pipeline[0].size = 128
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (146, 100000)
test_pipeline[2].crop_size = 128
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
