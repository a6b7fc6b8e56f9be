"""Hypothesis: the same examples on every run, unless a soak is asked for with HYPOTHESIS_PROFILE=soak.

The environments of the SDKs' earlier majors are without it: the clients' tests need none.
"""

import os
from importlib.util import find_spec

if find_spec("hypothesis") is not None:
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "ci",
        derandomize=True,
        deadline=None,
        database=None,
        max_examples=100,
        stateful_step_count=40,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    settings.register_profile(
        "soak",
        settings.get_profile("ci"),
        derandomize=False,
        max_examples=20_000,
        stateful_step_count=120,
        print_blob=True,
    )
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
