"""The services of Trimtab, one package each. None imports another, the command line excepted."""
