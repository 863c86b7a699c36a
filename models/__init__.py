"""The maths: one file per model, readable alone; torch and numpy, and iALS its own solver."""
