"""The panels: views of a `workbench.Session`, one panel a file."""
