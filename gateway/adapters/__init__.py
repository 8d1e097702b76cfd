"""Adapters: each gives one port by one foreign library. They decide nothing."""
