"""The exporter: every stage's figures in Prometheus' format, from the store and the broker."""
