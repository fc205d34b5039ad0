"""Label Studio's convention: `label-studio-ml start backend` imports the model class from here."""

from mollm_backend.web.model import Mollm

__all__ = ["Mollm"]
