"""The seven practices of fine-tuning: a table, and a folder for each practice that needs code of its own."""
