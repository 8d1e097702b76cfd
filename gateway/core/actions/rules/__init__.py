"""Rules by hand: what AWS's documentation says of a service, where names do not tell. One module a service. Pure.

Each has `needs(ask)`, which is None for an operation that the index knows as well.
"""
