from toolbox.inner import deep

LIST = [deep.DEPTH]
