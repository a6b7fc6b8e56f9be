-- The names of kinds and sources, which are kept as numbers.

return {
  KINDS = { "requests", "requests_day", "tokens", "input_tokens", "output_tokens", "concurrency" },
  KIND = { requests = 1, requests_day = 2, tokens = 3, input_tokens = 4, output_tokens = 5, concurrency = 6 },
  SOURCES = { "configured", "told", "learned", "preset", "guess" },
  SOURCE = { configured = 1, told = 2, learned = 3, preset = 4, guess = 5 },
}
