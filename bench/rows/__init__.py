"""The rows of the target table, in its order, and what explains them."""

from bench.rows import (
    anatomy,
    contention,
    fleet,
    goodput,
    hidden,
    permit,
    recovery,
    redis,
    reserves,
    startup,
    task_bulk,
    task_recovery,
    task_sharing,
    task_storm,
    tasks,
    waiters,
    wake,
)

ROWS = (
    *(permit.ROW, anatomy.ROW, contention.ROW, fleet.ROW, waiters.ROW, wake.ROW),
    *(goodput.ROW, reserves.ROW, hidden.ROW, recovery.ROW, startup.ROW),
    *(redis.ONE, redis.SEVERAL, redis.QUEUED, goodput.ACROSS),
    *(tasks.ROW, task_bulk.ROW, task_recovery.ROW, task_sharing.ROW, task_storm.ROW),
)
