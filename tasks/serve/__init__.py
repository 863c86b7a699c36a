"""The rules, the release, the gate, and what is served."""
