"""Degraded mode: an instance that cannot reach its store goes on at its last fair share (law 11).

Data flows one way: `steady` notices that the store does not answer → `fallback` decides what stands in for it →
`outage` is the time without it, with `shares` as its limits → `debts` are what is told to the store afterwards. An
instance that leaves asks by way of `parting`.
"""
