"""Services of others that say who a user is: the one that judges signatures, and the register of patients."""
