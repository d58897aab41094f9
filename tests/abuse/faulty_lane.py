"""The process of a lane with the faults built in."""

import sys

from app.lane_process import main
from tests.abuse import faults

if __name__ == "__main__":
    faults.build_in()
    main(*map(int, sys.argv[1:]))
