"""The tables, one module per layer."""
