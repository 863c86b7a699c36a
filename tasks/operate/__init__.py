"""Nights by themselves: what a Prefect server is told, and one machine that runs it all."""
