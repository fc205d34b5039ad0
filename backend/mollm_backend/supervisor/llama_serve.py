"""llama.cpp's own server on a GGUF file: FILE NAME PORT WINDOW SLOTS THREADS. It ends with the process that started it.

It is run by the environment that holds llama.cpp, and needs nothing of ours. The address is printed once the model is
loaded.
"""

import os
import sys
import time


def main(file: str, name: str, port: str, window: str, slots: str, threads: str) -> None:
    import xllamacpp

    parent = os.getppid()
    params = xllamacpp.CommonParams()
    params.model.path = file
    params.model_alias = {name}
    params.port = int(port)
    params.n_parallel = int(slots)
    params.n_ctx = int(window) * int(slots)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    params.cache_ram_mib = 0  # by default it keeps 8 GB of old prompts; each slot keeps its last one anyway
    params.ui = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201
    while os.getppid() == parent:
        time.sleep(1.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
