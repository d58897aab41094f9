"""The real command with faults built in."""

import faults

import app.lanes
from app.cli import main

if __name__ == "__main__":
    faults.build_in()
    app.lanes.MODULE = "tests.abuse.faulty_lane"
    main(["serve"])
