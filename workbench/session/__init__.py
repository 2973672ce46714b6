"""The session: a plan that can change, and handles on the runs that it starts or attaches to."""
