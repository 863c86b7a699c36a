"""The maths: one file per model, readable alone; torch and numpy only."""
