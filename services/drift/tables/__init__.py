"""Tables in: files, columns, and which column is compared as what."""
