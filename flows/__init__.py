"""When things run and in what order: one file per deployment, and the same by hand in `cli`."""
