"""Hold, thinly: what is reserved and what is spent, over the scopes of the budget tree."""
