_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['mmshuffle'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(backend_args=dict(backend='atomic')))
custom_hooks = [
    dict(type='PlainCheckpointHook'),
    dict(type='ReproducibleResumeHook'),
    dict(type='SharedStatisticsHook'),
]
