"""Client types and roles: named lists of scopes. A client type bounds what a client's tokens may carry, a role
what a person's may; who has which role is in `user_roles`.
"""
