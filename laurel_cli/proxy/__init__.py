"""One trial: its recipe, where it starts, its training, its checkpoint, what it leaves."""
