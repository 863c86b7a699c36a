"""Storage: Delta tables, DuckDB sessions over pinned versions, the file of views."""
