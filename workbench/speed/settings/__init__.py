"""Settings of the machine (precision and memory layout), chosen by measuring them."""
