"""The synchronous client: generated from `_async`, but for this file and `transport.py`."""
