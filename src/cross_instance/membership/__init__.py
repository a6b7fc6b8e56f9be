"""Membership: one instance of this process at one store, from joining to leaving.

Data flows one way: `process` finds or makes the `membership` that runtimes share → `liveness` shows it to this machine
(`presence`, a file) and `heartbeat`, its thread, to the store → `lookout` notices the dead; `standing` is what it has
to say of itself. `accounts` are the limits it publishes, `reloading` follows their files, `learned` keeps what was
learned.
"""
