import roost


class Trap(roost.App):
    @roost.endpoint("/")
    def root(self) -> str:
        return [self._help() for _ in range(1)][0]

    def _help(self):
        def inner():
            from neighbour import help_me

            return help_me()

        return inner()
