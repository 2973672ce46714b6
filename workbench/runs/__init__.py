"""Runs: build the learner, train it, save checkpoints, resume, go back to any step, fork, and export the model."""
