"""The real command with faults built in."""

import faults

import app.nursery
from app.cli import main

if __name__ == "__main__":
    faults.build_in()
    app.nursery.MODULE = "tests.abuse.faulty_lane"
    main(["serve"])
