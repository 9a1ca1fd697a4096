"""The doctor: what an operator should know of the database and of what is around a server. It changes nothing."""
