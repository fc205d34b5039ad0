"""llama.cpp's own server on a GGUF file, run by the environment that `make test-llama-cpp` makes: FILE SLOTS."""

import sys
import time

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.model_alias = {"smollm2"}
params.n_parallel = int(sys.argv[2])
params.n_ctx = 1024 * params.n_parallel
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
while True:
    time.sleep(3600)
