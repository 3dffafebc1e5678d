import roost
from studio import config
from studio.tools import paint


class Studio(roost.App):
    @roost.endpoint("/")
    def root(self) -> dict:
        import studio
        import studio.tools.late
        from studio.tools.late import late

        from .tools import late as by_relative_name

        late()
        return {
            "paint": paint.paint(),
            "size": config.SIZE,
            "title": studio.TITLE,
            "late": late(),
            "strokes": studio.tools.late.strokes,
            "relative": by_relative_name.strokes,
        }
