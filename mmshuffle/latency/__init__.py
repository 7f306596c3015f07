"""The latency tool: networks measured on the device that will run them.

``device`` is what runs there; ``targets`` says how to reach it; the other modules stay here.
"""
