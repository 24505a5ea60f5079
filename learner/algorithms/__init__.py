"""The family of on-line algorithms: advantage estimators, policy losses, and the table that pairs them."""
