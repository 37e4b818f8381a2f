"""Where examples come from: every source is prepared once into memory-mapped arrays in the cache."""
