"""How gunicorn runs the web backend, under `mollm up` and in the web image alike.

One process with threads: an answer is a look-up in the store and no memory is shared between requests, but one
process holds the connections and the metrics. Names that an older gunicorn does not know are passed over by it.
"""

wsgi_app = "mollm_backend.web.wsgi:app"
workers = 1
worker_class = "gthread"
threads = 8
timeout = 120
graceful_timeout = 3
keepalive = 15
control_socket_disable = True  # it would be one file for all homes
