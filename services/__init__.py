"""The services of Trimtab, one package each. No service imports another, the command line excepted."""
