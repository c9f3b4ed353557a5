"""Tables from outside: what bytes are a table, the same for `check`, `ingest` and `replay`."""
