from .. import config
from . import brush


def paint():
    return brush.stroke() * config.SIZE
