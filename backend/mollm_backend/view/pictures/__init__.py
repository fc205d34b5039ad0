"""Pictures as SVG, each with the same numbers as a table: one picture a file.

Colours and sizes of text come from `static/pictures.css` by class alone, so that a page may forbid inline styles.
Every picture is 360 units wide, which a narrow phone shows at about its own size: text stays readable there.
"""

from mollm_backend.view.pictures.bars import bars
from mollm_backend.view.pictures.canvas import Picture
from mollm_backend.view.pictures.curve import Series, curve
from mollm_backend.view.pictures.heat import heat
from mollm_backend.view.pictures.matrix import matrix
from mollm_backend.view.pictures.reliability import Bin, reliability

__all__ = ["Bin", "Picture", "Series", "bars", "curve", "heat", "matrix", "reliability"]
