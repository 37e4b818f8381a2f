"""A command's document as its page: a file a command, each with a function `page(document)`."""
