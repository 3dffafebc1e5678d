import neighbour

import roost


class Trap(roost.App):
    @roost.endpoint("/")
    def root(self) -> str:
        return neighbour.help_me()
