"""The Interlock server: state tracking for a fleet of workflow workers.

The layers, each calling only those after it: `cli`, then `rpc` and `background`, then `core`, then
`storage`, then `rules`. `docs/architecture.md` walks one transition through them.
"""
