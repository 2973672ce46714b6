"""The Plan: frozen data that says everything a run needs, its checks, and what each field touches."""
