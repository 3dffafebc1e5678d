from .. import config  # noqa: TID252 - a relative import is what is tested
from . import brush


def paint():
    return brush.stroke() * config.SIZE
