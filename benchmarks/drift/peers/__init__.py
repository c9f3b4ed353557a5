"""What is compared: one module each, imported only in the environment that has its library."""
