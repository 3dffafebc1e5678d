from neighbour import help_me

import roost


class Trap(roost.App):
    @roost.endpoint("/")
    def root(self) -> str:
        return help_me()
