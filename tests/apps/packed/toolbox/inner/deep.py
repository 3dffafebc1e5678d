DEPTH = 2


def dig():
    from toolbox.inner import spade

    return spade.spade() * DEPTH
