"""Answers that were given before, and whether they still are the answer. No torch is imported in here."""
