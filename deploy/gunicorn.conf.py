"""How gunicorn runs the gateway. `trusted-gateway serve` reads this; addresses and workers come from the settings."""

from gateway.web.server.slots import pre_fork  # noqa: F401  # a hook: a restarted worker takes over its audit chain

worker_class = "gateway.web.server.worker.LoopWorker"

# Unsealed once, before the fork; the workers share the TLS contexts and so resume each other's sessions.
preload_app = True

# gunicorn would leave a control socket in the home directory.
control_socket_disable = True

# A worker whose event loop hangs is replaced after this; a stopping one may finish what it began.
timeout = 30
graceful_timeout = 30

# The audit log is the access log; what gunicorn says goes to standard error, for the journal.
accesslog = None
errorlog = "-"
loglevel = "info"
