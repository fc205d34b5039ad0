"""The settings with which gunicorn runs the web backend, for `mollm up` and for the web image.

Each name below is a gunicorn setting; an older gunicorn ignores those that it does not know.
"""

wsgi_app = "mollm_backend.web.wsgi:app"
workers = 1  # processes; one is enough, because an answer is a look-up in the store
worker_class = "gthread"  # threads: requests mostly wait for the store
threads = 8  # requests at once; a guess: more of them hold more store connections open
timeout = 120  # seconds; Label Studio itself waits 100 s for an answer
graceful_timeout = 3  # seconds for running requests; the supervisor kills a child after 8 s
keepalive = 15  # seconds that an idle connection stays open; a guess: saves new connections, holds sockets
control_socket_disable = True  # all homes would share its file
