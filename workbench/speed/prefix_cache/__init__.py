"""The prefix cache: the activations of the frozen lowest blocks are computed once and cached."""
