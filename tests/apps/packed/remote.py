import roost


def summed(values):
    import a_package_of_the_runner as ap

    return ap.add(values)


class Remote(roost.App):
    requirements = ["a-package-of-the-runner"]

    @roost.endpoint("/")
    def root(self) -> dict:
        from a_package_of_the_runner import VERSION

        return {"sum": summed([1, 2]), "version": VERSION}
