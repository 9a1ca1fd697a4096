"""Client types and roles: named lists of scopes. A client type bounds what a client's tokens may carry, a role
what a user's tokens may carry; which user has which role is in `user_roles`.
"""
