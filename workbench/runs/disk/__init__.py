"""A run on disk: the folder, its log, its checkpoints as files, and the process that runs it. Free of torch."""
