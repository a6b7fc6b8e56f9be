"""What providers say and how they charge: presets, signals, tokens. Pure reading; no clock, no I/O."""
