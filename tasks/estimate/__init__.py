"""Estimates: how good the lists are."""
