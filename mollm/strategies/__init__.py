"""Query strategies: one a file, each a function over a lazy pool."""
