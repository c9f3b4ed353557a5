"""The `trimtab` command, and the embedded system that it runs on one machine."""
