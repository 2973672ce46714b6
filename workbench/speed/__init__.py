"""What may make a step cheaper and never different."""
