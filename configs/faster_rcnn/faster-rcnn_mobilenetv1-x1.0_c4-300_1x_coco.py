_base_ = [
    '../_base_/models/faster-rcnn_c4_mobilenetv1-x1.0.py',
    '../_base_/datasets/coco_detection_300.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]
