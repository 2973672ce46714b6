"""A run on disk: its folder, its log, its checkpoint files, and the process that executes it. Imports no torch."""
