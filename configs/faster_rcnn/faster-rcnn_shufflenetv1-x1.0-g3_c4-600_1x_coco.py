_base_ = [
    '../_base_/models/faster-rcnn_c4_shufflenetv1-x1.0-g3.py',
    '../_base_/datasets/coco_detection_600.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]
