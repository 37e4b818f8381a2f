"""From records to one frontier: joined, compared, drawn. Reads what is on disk; needs no torch and no model.

`arms.py` says which measurements are of the same arm, `join.py` and `studies.py` which belong side by side. What a
study establishes is said by `laurel_cli.verdict` alone; `frontier.py`, `savings.py` and `costs.py` set it against what
the arms cost, `document.py` puts all of it into one JSON document, `answer.py` and `method.py` into words, `figures/`
into pictures; `recommend.py` asks all studies of a model.
"""
