"""What must hold: the catalogue of tables, and one Great Expectations suite per table."""
