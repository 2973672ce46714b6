"""The Plan: frozen data that says everything a run needs, with checks, and metadata on what each field affects."""
