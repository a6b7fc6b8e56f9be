"""Side-by-side benchmarks: each figure beside its floor and its peers, measured in the same run.

`python -m bench` measures every row of `rows` and writes RESULTS.md, results.json and results.png beside this file.
The flow: a row opens its subjects (`floors`, `ours`, `peers`), `measuring` runs them in rounds, `report` and `picture`
show the results.
"""
