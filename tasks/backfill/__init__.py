"""Backfills: nights of the past, made apart from what is served; only their releases cross over."""
