"""A run from beginning to end: build the learner, train, keep checkpoints, go back to a step, fork, export."""
