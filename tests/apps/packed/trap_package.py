import toolbox.inner.deep

import roost


class Trap(roost.App):
    @roost.endpoint("/")
    def root(self) -> int:
        return toolbox.inner.deep.dig()
