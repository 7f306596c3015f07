# Light-Head R-CNN as in its authors' release, with the middle of 64 channels that its paper has for
# small backbones; the backbone and what reads it take their widths from the configs. What no paper
# prints is listed in light_head_rcnn/README.md.
_base_ = ['mmdet::_base_/models/faster-rcnn_r50-caffe-c4.py', '../pretrained.py']

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=16,
    ),
    neck=dict(
        type='LargeSeparableConv',
        mid_channels=64,
        out_channels=490,
        kernel_size=15,
    ),
    rpn_head=dict(type='LastMapRPNHead', feat_channels=512),
    roi_head=dict(
        shared_head=None,
        bbox_roi_extractor=dict(
            _delete_=True,
            type='PSRoIExtractor',
            roi_layer=dict(
                type='PSRoIAlign',
                output_size=7,
                sampling_ratio=2,
                pool_mode='max',
                aligned=False,
            ),
            out_channels=10,
            featmap_strides=[16],
        ),
        bbox_head=dict(
            type='ConvFCBBoxHead',
            num_shared_fcs=1,
            fc_out_channels=2048,
            in_channels=10,
            with_avg_pool=False,
            loss_bbox=dict(_delete_=True, type='SmoothL1Loss', beta=1.0, loss_weight=2.0),
        ),
    ),
    train_cfg=dict(rcnn=dict(sampler=dict(type='OHEMSampler', num=256))),
)
