# Fine-tuning on a small set of one's own: hundreds of images, minutes on a CPU. A config for a data
# set inherits this one and says only where the data is, as the one of BCCD does.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_detection_320.py',
    '../_base_/schedules/detection_bs4_12e.py',
    '../_base_/default_runtime.py',
]

# A quarter of the usual channels, 128 RoIs of 300 proposals and two samples a bin: half the time of
# a step on a CPU. BatchNorm is trained everywhere: frozen statistics of ImageNet end at AP 0 here.
model = dict(
    backbone=dict(
        _delete_=True,
        type='ShuffleNetV2',
        widen_factor=0.5,
        layout='torchvision',
        init_cfg=dict(type='Pretrained', checkpoint='mmshuffle://torchvision/shufflenetv2-x0.5'),
    ),
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=64, norm_cfg=dict(type='BN')),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=2)),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=300), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)),
)
train_dataloader = dict(batch_size=4)
