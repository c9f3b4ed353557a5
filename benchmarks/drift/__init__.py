"""How long a drift check takes, beside other tools, and what a profile costs."""
