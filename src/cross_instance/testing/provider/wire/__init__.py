"""The wire formats: how each provider's requests are read, and its answers, streams, errors and headers written.

A format is a module with the functions of `routes.Wire`. It builds JSON and text only: no sockets, clocks or limits.
"""
