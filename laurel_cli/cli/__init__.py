"""The command line: a thin file per command, options in, one call, one rendering out."""
