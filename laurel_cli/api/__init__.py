"""The functions of the public API that put rooms together, a file each; `laurel_cli/__init__.py` names them."""
