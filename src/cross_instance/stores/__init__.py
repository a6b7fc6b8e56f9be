"""Where the shared state lives: the protocol of a store (`base`), and the stores."""
