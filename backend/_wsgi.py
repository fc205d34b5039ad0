"""Label Studio's convention: `label-studio-ml start backend` runs this file. It serves mollm's own app."""

import argparse

from mollm_backend import logs, settings
from mollm_backend.web.app import create_app

logs.set_up()
app = create_app(settings.load())

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="mollm as a Label Studio ML backend (development server).")
    parser.add_argument("-p", "--port", type=int, default=9090)
    parser.add_argument("--host", default="127.0.0.1")
    arguments, _others = parser.parse_known_args()
    app.run(host=arguments.host, port=arguments.port)
