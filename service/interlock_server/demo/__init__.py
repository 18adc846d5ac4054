"""`make demo`: a workflow that indexes this machine's Python library, as a fleet would run it.

A client of the service and nothing more. To see how a worker is written, begin with `worker.py`;
what it does for a living is in `workflow.py`.
"""
