"""Engines for real: a Slurm of two nodes and a Ray of three raylets, both on this one machine."""
