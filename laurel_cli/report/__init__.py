"""From records to one frontier: joined, compared, drawn. Reads what is on disk; needs no torch and no model.

`arms.py` says which measurements are of the same arm, `join.py` which belong side by side; `compare.py` and
`frontier.py` hold the statistics, `document.py` puts all of it into one JSON document, `answer.py` and `method.py`
into words, `figures/` into pictures.
"""
