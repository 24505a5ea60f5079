"""A stand-in for the Unity executable of ai2thor 2.1.0, so that everything around it can run for real. It is a fake:
it answers the protocol for a household described in a JSON file and draws bands of plain colour. No rendering, no
physics; standard library only, since it runs under whatever interpreter ai2thor has.

The household: "viewpoints" {receptacle id: [x, z, rotation, horizon]}, "things" {id: receptacle id}, "fixtures" {id:
receptacle id near which it is}, and optionally "exit_at" or "hang_at", the name of an action at which that happens.
"""

import json
import os
import sys
import time
import urllib.request

SIZE = 300
OPENABLE = ("Cabinet", "Drawer", "Fridge", "Microwave")
BOUNDARY = b"fake-unity"


class Household:
    def __init__(self, described):
        self.described, self.token = described, os.environ["AI2THOR_CLIENT_TOKEN"]
        self.ids = [*described["viewpoints"], *described["things"], *described["fixtures"]]
        self.reset()

    def reset(self):
        self.pose, self.held = None, None
        self.parents = dict(self.described["things"])
        self.open, self.on = set(), set()

    def act(self, action):
        """Plays an action; what is wrong with it, or ""."""
        name, thing = action["action"], action.get("objectId")
        if name == self.described.get("exit_at"):
            sys.exit(1)
        if name == self.described.get("hang_at"):
            time.sleep(600)
        if name == "Reset":
            self.reset()
        elif name == "TeleportFull":
            self.pose = [action["x"], action["z"], action["rotation"]["y"], action["horizon"]]
        elif name == "PickupObject":
            if self.held or thing not in self.visible():
                return "hand is full, or nothing there"
            self.held = thing
            del self.parents[thing]
        elif name == "PutObject":
            place = action["receptacleObjectId"]
            if thing != self.held or place not in self.visible() or self.shut(place):
                return "not held, out of reach, or closed"
            self.held, self.parents[thing] = None, place
        elif name in ("OpenObject", "CloseObject", "ToggleObjectOn", "ToggleObjectOff"):
            marked = self.open if "Toggle" not in name else self.on
            if (thing in marked) == name.endswith(("OpenObject", "On")):
                return "is so already"
            (marked.add if name.endswith(("OpenObject", "On")) else marked.remove)(thing)
        return ""

    def visible(self):
        places = [place for place, pose in self.described["viewpoints"].items() if pose == self.pose]
        inside = [thing for thing, place in self.parents.items() if place in places and not self.shut(place)]
        return [*places, *inside, *(fixture for fixture, near in self.described["fixtures"].items() if near in places)]

    def shut(self, place):
        return kind(place) in OPENABLE and place not in self.open

    def event(self, sequence, problem):
        """Multipart body: what ai2thor's server reads of an event."""
        seen = self.visible()
        rows = [max(SIZE // max(len(seen), 1), 1)] * len(seen)
        # Images are sent from the bottom row up, so the last colour is the topmost.
        bands = b"".join(bytes(self.color(item)) * SIZE * count for item, count in zip(seen, rows, strict=True))
        ids = bands.ljust(SIZE * SIZE * 3, b"\0")
        picture = bytes((0, 0, 255)) * (SIZE * SIZE // 2) + bytes((255, 0, len(seen))) * (SIZE * SIZE // 2)
        agent = {
            "agent": {"position": {"x": 0.0, "y": 0.9, "z": 0.0}, "rotation": {"y": 0.0}, "cameraHorizon": 30.0},
            "colors": [{"name": item, "color": self.color(item)} for item in self.ids],
            "colorBounds": [{"color": self.color(item), "bounds": [0, 0, SIZE, 20]} for item in seen],
            "errorCode": "",
            "errorMessage": problem,
            "inventoryObjects": [{"objectId": self.held, "objectType": kind(self.held)}] if self.held else [],
            "lastActionSuccess": not problem,
            "objects": [self.object(item, item in seen) for item in self.ids],
            "screenHeight": SIZE,
            "screenWidth": SIZE,
            "thirdPartyCameras": None,
        }
        metadata = json.dumps({"sequenceId": sequence, "activeAgentId": 0, "agents": [agent]}).encode()
        parts = [part("metadata", metadata), part("token", self.token.encode())]
        parts += [part("image", picture, "image"), part("image_ids", ids, "image_ids")]
        return b"".join(parts) + b"\r\n--" + BOUNDARY + b"--\r\n"

    def object(self, item, seen):
        place = self.parents.get(item)
        return {
            "objectId": item,
            "objectType": kind(item),
            "position": {"x": 0.0, "y": 0.0, "z": 0.0},
            "visible": seen,
            "parentReceptacles": [place] if place else None,
            "receptacle": item in self.described["viewpoints"],
            "receptacleObjectIds": [thing for thing, where in self.parents.items() if where == item],
            "pickupable": item in self.described["things"],
            "toggleable": kind(item) in ("Microwave", "Faucet", "DeskLamp", "FloorLamp"),
            "isToggled": item in self.on,
            "openable": kind(item) in OPENABLE,
            "isOpen": item in self.open,
            "dirtyable": False,
            "isDirty": False,
        }

    def color(self, item):
        return [10, 20, 1 + self.ids.index(item)]


def kind(item):
    return item.split("|")[-1] if item.endswith("Basin") else item.split("|")[0]


def part(name, body, filename=None):
    named = f'; filename="{filename}"' if filename else ""
    kind_of = "image/raw" if filename else "text/plain; charset=utf-8"
    header = f'Content-Type: {kind_of}\r\nContent-disposition: form-data; name="{name}"{named}\r\n\r\n'
    return b"\r\n--" + BOUNDARY + b"\r\n" + header.encode() + body


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        household = Household(json.load(file))
    address = f"http://{os.environ['AI2THOR_HOST']}:{os.environ['AI2THOR_PORT']}/train"
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    sequence, problem = 0, ""
    while True:
        request = urllib.request.Request(address, household.event(sequence, problem), headers)
        with urllib.request.urlopen(request, timeout=600) as reply:
            action = json.load(reply)
        if "action" not in action:
            return
        sequence, problem = action["sequenceId"], household.act(action)


if __name__ == "__main__":
    main()
