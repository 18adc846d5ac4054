"""Pure decisions about runs: no I/O, no clock, no protobuf, no SQL.

A rule is a small function over the facts of one proposed transition; a policy is an ordered list of
rules; `frame.decide` asks them in turn. `effects` says what a written state does to its run.
"""
