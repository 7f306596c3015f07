# The drawn set of tools/quickstart.py, from scratch, in minutes on a CPU.
_base_ = './faster-rcnn_shufflenetv2-x0.5_fpn_finetune.py'

model = dict(backbone=dict(init_cfg=None))
