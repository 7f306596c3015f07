# The former name of this config, which configs of one's own may still inherit.
_base_ = './faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e_coco.py'
