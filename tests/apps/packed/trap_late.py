import roost


class Trap(roost.App):
    @roost.endpoint("/")
    def root(self) -> str:
        return self._help()

    def _help(self):
        def inner():
            from neighbour import help_me

            return help_me()

        return inner()
