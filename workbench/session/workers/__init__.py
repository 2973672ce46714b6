"""Worker processes: start one for a run, follow its log, and report how it ended."""
