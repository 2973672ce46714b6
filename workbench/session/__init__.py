"""The session: a plan that changes, and handles on the runs that it starts or attaches to."""
