"""What can be asked of a command and of its function in Python: each thing once, with its default and its words.

A command's settings are a frozen dataclass. A field is a keyword argument in Python and, with what `says` tells of it,
an option on the command line; `cli/signature.py` makes the one from the other. No torch, no typer.
"""
