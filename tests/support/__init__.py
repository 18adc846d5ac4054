"""What tests and benchmarks stand on: real databases of exact versions, private to a run.

`postgresql` starts servers of the oldest and of the newest supported version; `sqlite324` builds
the oldest supported SQLite. Both come from packages, and are kept in the `cache`.
"""
