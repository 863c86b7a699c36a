"""Training: arrays, sampling, the loop, saved models, top-K lists."""
