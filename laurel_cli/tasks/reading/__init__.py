"""Data is prepared once into memory-mapped arrays in the cache; what several tasks read with."""
