"""What holds for every test that draws its examples with hypothesis."""

import os

from hypothesis import HealthCheck, settings

# No deadlines: how long an example takes says how busy the machine is. Where a change is judged, the same examples are
# drawn each time, so that it is judged by what it changes; whoever runs the tests by hand looks for new ones.
settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("unhurried")
