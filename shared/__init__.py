"""What every Trimtab service stands on. Imports no service."""
