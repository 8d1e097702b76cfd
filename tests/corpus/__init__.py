"""Every operation of every service of AWS that botocore knows, as the request that botocore really signs for it.

Nothing leaves the process: a request is taken where it would be sent. `python -m tests.corpus` drives all of them.
"""
