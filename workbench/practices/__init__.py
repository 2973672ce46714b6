"""The seven practices of fine-tuning: a table, and a folder for every practice that has code of its own."""
