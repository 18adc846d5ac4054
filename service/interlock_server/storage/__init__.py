"""Everything that knows how the database is laid out: tables, statements, the commit pipeline.

`pipeline` is the one way in for writes, `queries` the way out for reads. What differs between
databases stands in `sqlite/` and `postgresql/`, whose modules have the same names.
"""
