"""Runs in processes of their own: start a worker, follow its log, and say how it ended."""
