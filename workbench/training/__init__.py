"""Training: the only training loop, the learner that it trains, the optimizer, the schedule, and the tactics."""
