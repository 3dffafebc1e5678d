import roost
from gallery.rooms.hall import hung


class Gallery(roost.App):
    @roost.endpoint("/")
    def show(self, input) -> dict:
        from gallery.frames import framed

        return {"hung": hung(input["title"]), "late": framed("late")}
