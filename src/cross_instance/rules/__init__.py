"""The rules: what every store decides, in pure Python. No clock, no randomness, no I/O."""
