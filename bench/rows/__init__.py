"""The rows of the target table, in its order, and what explains them."""

from bench.rows import anatomy, contention, goodput, permit, recovery, startup, waiters, wake

ROWS = (permit.ROW, anatomy.ROW, contention.ROW, waiters.ROW, wake.ROW, goodput.ROW, recovery.ROW, startup.ROW)
