"""How fast an arm runs, as a ratio to the baseline: devices, and the paired protocol."""
