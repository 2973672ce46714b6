"""Training: the engine (the only loop), the learner, and how the plan becomes optimizer, schedule and changes."""
