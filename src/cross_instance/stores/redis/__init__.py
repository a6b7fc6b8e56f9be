"""The Redis store: processes of many machines share one server, Redis or Valkey.

The way in is `store`; everything else serves it:

    store         RedisStore, AsyncRedisStore: the two kinds of `Store`
    calls         how an operation is sent, repeated and given up, without any I/O
    wire          operations and results as the scripts have them
    scripts       the Lua files, put together
    connections   the connections of threads; `pipeline` the one of an event loop
    servers       where the primary is, and how to connect to it
    wakeups       wake-ups over pub/sub
    shared        what all stores of a process on one address share
    faults        what the servers' errors mean
    address       URLs
"""
