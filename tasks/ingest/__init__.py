"""Landed files become clean tables; what does not fit goes to quarantine, and all is accounted."""
