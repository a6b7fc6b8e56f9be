"""Tokens, from request to response; the one place to import them from.

A request is read (`read_request`), its cost on arrival follows by the provider's rule (`costs_of`), its response tells
what was used (`UsageReader`), which is what it really cost (`charged`) and teaches the next estimate (`Calibration`).
"""

from cross_instance.providers.calibration import Calibration
from cross_instance.providers.charges import charged, costs_of
from cross_instance.providers.requests import RequestInfo, read_request
from cross_instance.providers.usage import Usage, UsageReader

__all__ = ["Calibration", "RequestInfo", "Usage", "UsageReader", "charged", "costs_of", "read_request"]
