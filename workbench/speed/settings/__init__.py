"""Settings of the machine (precision, memory layout, attention, optimizer), chosen by measuring them."""
