"""How fast hidden limits are found, how much of them is used and at how many 429s: a simulation.

`python -m bench.learning` runs the rules' own learner under virtual time against the providers of `provider`, beside
the `peers`, and writes RESULTS.md, results.csv and results.png beside this file. The flow: `scenes` says what is run,
`simulation` runs it, `figures` measures, `report` and `picture` show.
"""
