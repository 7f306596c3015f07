"""What runs on the device: it goes there as one file and needs Python 3.8 and a runtime.

:mod:`mmshuffle.latency.targets.python_target` makes the file of these modules. They import the
standard library and each other only, and a runtime where a job asks for it.
"""
