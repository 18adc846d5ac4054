"""Logs: appending to them, reading, following and searching them, and keeping them small.

`appends` takes batches in, each of which becomes a chunk (`chunks`); `merging` makes large chunks
of small ones. `pages` and `tails` read one log, `ends` says when no more is to come to it, and
`news` tells those who follow; `search` looks through many (`search_chunks`: which chunks,
`search_plan`: in which order, `text`: what matches). `deletion` and `retention` delete.
"""
