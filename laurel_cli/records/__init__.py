"""What measurements leave on disk: written once, whole or not at all; read without torch."""
