"""How fast an arm runs, as a ratio to the baseline: the paired protocol."""
