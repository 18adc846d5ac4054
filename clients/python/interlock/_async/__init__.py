"""The asynchronous client: the one source, from which `tools/generate_sync.py` makes `_sync`."""
