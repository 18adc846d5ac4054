"""The loops that run beside the calls."""
