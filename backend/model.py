"""Label Studio's convention: `label-studio-ml start backend` imports the model class from here."""

from mollm_backend.web.model import Mollm

NewModel = Mollm  # the class's name in upstream's template, which its default test file imports

__all__ = ["Mollm", "NewModel"]
