"""What is measured, against what. Figures and how to get them again are in README.md."""
