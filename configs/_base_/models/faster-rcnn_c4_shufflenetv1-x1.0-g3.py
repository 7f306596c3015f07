_base_ = ['./faster-rcnn_c4.py', '../pretrained.py']

backbone = dict(type='ShuffleNetV1', groups=3, widen_factor=1.0, norm_eval=True)
pretrained = dict(
    type='Pretrained', checkpoint=_base_.imagenet_checkpoint.format('shufflenetv1-x1.0-g3')
)
model = dict(
    backbone=dict(
        _delete_=True, **backbone, out_indices=(2,), frozen_stages=0, init_cfg=pretrained
    ),
    rpn_head=dict(in_channels=480, feat_channels=480),
    roi_head=dict(
        shared_head=dict(
            _delete_=True, type='BackboneStageHead', backbone=backbone, init_cfg=pretrained
        ),
        bbox_roi_extractor=dict(out_channels=480),
        bbox_head=dict(in_channels=960),
    ),
)
