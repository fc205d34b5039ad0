"""A real worker that writes accepted labels in small pieces, so that a kill finds it in the middle of them."""

from __future__ import annotations

from mollm_backend.jobs import worker
from mollm_backend.labelstudio import accepting

if __name__ == "__main__":
    accepting.PIECE, accepting.ACTION, accepting.LOOK, accepting.FORGET = 200, 20, 20, 50
    worker.main()
