"""The way to AWS: connections that are verified, pooled and bounded, on the event loop of the worker.

Nothing here decides whether a request may be sent. What comes back is read as strictly as what comes in.
"""
