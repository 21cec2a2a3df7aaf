"""How many replicas each role should have, and why. Pure: no IO, no clock; time is a part of what was observed."""
