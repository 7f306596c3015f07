# Trainings of minutes: more lines in the log, and the history of the figures.
_base_ = './default_runtime.py'

custom_hooks = [
    *_base_.custom_hooks,
    dict(type='PreciseBNHook', num_batches=100),
    dict(type='ProgressHook', metrics={'top-1': 'accuracy/top1'}, scale=1),
    dict(type='HistoryHook'),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=5, max_keep_ckpts=3))
