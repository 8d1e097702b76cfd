"""The HTTP server: a gunicorn worker class that answers hot routes on uvloop and leaves the rest to a WSGI application.

It knows HTTP and TLS sockets, and nothing about instances, certificates or AWS.
"""
