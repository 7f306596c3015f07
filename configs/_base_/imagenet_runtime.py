# As the ShuffleNet authors' release, estimate the BatchNorm statistics anew at the end.
_base_ = './default_runtime.py'

custom_hooks = [*_base_.custom_hooks, dict(type='PreciseBNHook', num_batches=1250)]
default_hooks = dict(logger=dict(interval=100), checkpoint=dict(interval=10, max_keep_ckpts=3))
