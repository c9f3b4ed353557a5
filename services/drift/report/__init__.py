"""What a check found, in words, figures and pictures."""
