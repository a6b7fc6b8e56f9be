"""Watching: what the instances of a store do, for programs, log files and metrics.

Data flows one way: a permit leaves `notes` → `activity` tells them as events, with what `sights` sees anew in the store
→ `feed` brings them to other processes (`shared_file`), `relay` to other machines, `journal` to the log files.
`shared_sights` lets one instance of a machine look for all; `readings` are what metrics read of the store,
`call_metrics` what they tell of calls.
"""
